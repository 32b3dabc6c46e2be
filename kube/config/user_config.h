// Where the API server is, for a program that a person starts.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "kube/config/config.h"

namespace pointsman::kube {

// What a credential plugin answers (client.authentication.k8s.io, ExecCredential). PEM texts.
struct ExecCredential {
  std::string token;
  std::string client_certificate_pem;
  std::string client_key_pem;
};
// Runs it. `exec`: the user's field of that name; `where`: for messages; `directory`: of the
// kubeconfig, for a command that is a relative path. Throws ConfigError.
using RunExec = std::function<ExecCredential(const nlohmann::json& exec, const std::string& where,
                                             const std::filesystem::path& directory)>;

// As kubectl: `kubeconfig` if not empty, else $KUBECONFIG, else ~/.kube/config if that is there,
// else in-cluster. `context` empty: current-context. A credential plugin runs with the rights of
// whoever starts this program, as kubectl does it. Throws ConfigError.
Config LoadUserConfig(const std::filesystem::path& kubeconfig, const std::string& context,
                      const RunExec& run_exec);

}  // namespace pointsman::kube
