// Where the API server is and how to prove who we are to it: from a kubeconfig file or from inside
// a pod. Rules: client-go's clientcmd and rest.InClusterConfig.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

namespace pointsman::kube {

// The kubeconfig is unreadable or says something we cannot do. The message names file and field.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// PEM texts, not file names: relative paths and base64 "-data" fields are resolved by the loader.
struct Config {
  std::string server;           // "https://10.0.0.1:6443", no trailing slash
  std::string tls_server_name;  // overrides the host name to verify; usually empty
  std::string ca_pem;           // empty: the system's CAs
  bool insecure_skip_tls_verify = false;
  std::string client_certificate_pem;
  std::string client_key_pem;
  std::string token;  // with a token_file: what to send when that cannot be read
  // Re-read at most once a minute and after a 401: bound service account tokens rotate hourly.
  std::filesystem::path token_file;
  std::string user_agent = "pointsman";
  std::string namespace_;  // the context's or the pod's namespace; "default" if none
};

// Throws ConfigError. `context` empty: current-context.
Config LoadKubeconfig(const std::filesystem::path& file, const std::string& context = "");

// From KUBERNETES_SERVICE_HOST/PORT and the service account's mounted files. Throws ConfigError.
Config LoadInClusterConfig(
    const std::filesystem::path& service_account = "/var/run/secrets/kubernetes.io/serviceaccount");

// `kubeconfig` if not empty, else $KUBECONFIG (a list like PATH, merged as kubectl does), else
// in-cluster. Throws ConfigError.
Config LoadConfig(const std::filesystem::path& kubeconfig);

}  // namespace pointsman::kube
