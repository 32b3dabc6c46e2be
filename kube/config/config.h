// Where the API server is and how to prove who we are to it: from a kubeconfig file or from inside
// a pod. Rules: client-go's clientcmd and rest.InClusterConfig.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

namespace pointsman::kube {

// The kubeconfig is unreadable or says something we cannot do. The message names file and field; it
// is valid UTF-8 of at most 4 KiB, whatever the files have.
class ConfigError : public std::runtime_error {
 public:
  explicit ConfigError(const std::string& message);
};

// PEM texts: relative paths and base64 "-data" fields are resolved by the loader. A text that came
// from a file has its name beside it: the file is read again when it changes (kube/http), as
// kubelet, cert-manager and the rotation of a cluster's CA replace it.
struct Config {
  std::string server;           // "https://10.0.0.1:6443", no trailing slash
  std::string tls_server_name;  // overrides the host name to verify; usually empty
  std::string ca_pem;           // empty: the system's CAs
  std::filesystem::path ca_file;
  bool insecure_skip_tls_verify = false;
  std::string client_certificate_pem;
  std::filesystem::path client_certificate_file;
  std::string client_key_pem;
  std::filesystem::path client_key_file;
  std::string token;  // with a token_file: what to send when that cannot be read
  // Re-read at most once a minute and after a 401: bound service account tokens rotate hourly.
  std::filesystem::path token_file;
  std::string user_agent = "pointsman";
  std::string namespace_;  // the context's or the pod's namespace; "default" if none
};

// Files are at most 1 MiB, their YAML is bounded as ParseYaml says; messages name file and field.
// `server`, if not empty, goes before the kubeconfig's (kube-proxy's --master), and then its
// tls-server-name does not count, as in client-go.

// Throws ConfigError. `context` empty: current-context.
Config LoadKubeconfig(const std::filesystem::path& file, const std::string& context = "",
                      const std::string& server = "");

// The same for a kubeconfig's text; `file` stands for its place in messages and for relative paths.
Config ParseKubeconfig(const std::string& text, const std::filesystem::path& file,
                       const std::string& context = "", const std::string& server = "");

// From KUBERNETES_SERVICE_HOST/PORT and the service account's mounted files. Throws ConfigError.
Config LoadInClusterConfig(
    const std::filesystem::path& service_account = "/var/run/secrets/kubernetes.io/serviceaccount");

// `kubeconfig` if not empty, else $KUBECONFIG (a list like PATH, merged as kubectl does), else
// in-cluster; without a kubeconfig a `server` is asked without credentials, as kube-proxy does.
// Throws ConfigError.
Config LoadConfig(const std::filesystem::path& kubeconfig, const std::string& server = "");

}  // namespace pointsman::kube
