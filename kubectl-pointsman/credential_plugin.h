// The credential plugin of a kubeconfig's user, as EKS, GKE and AKS have it for people.
#pragma once

#include "kube/config/user_config.h"

namespace pointsman::plugin {

// Runs the command and reads its ExecCredential. It is not interactive, and its answer is not
// renewed: what watches for longer than a token lives is told to start again. A kube::RunExec.
kube::ExecCredential RunCredentialPlugin(const nlohmann::json& exec, const std::string& where,
                                         const std::filesystem::path& directory);

}  // namespace pointsman::plugin
