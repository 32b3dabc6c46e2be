// The agent's command line.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace pointsman::agent {

struct Options {
  std::filesystem::path kubeconfig;  // "": $KUBECONFIG, else in-cluster
  std::string node_name;  // "": $NODE_NAME, else the host name in lower case, as kube-proxy
  // A KubeProxyConfiguration file: the agent runs standalone, as a drop-in for kube-proxy, and
  // needs neither operator nor NodeProxy.
  std::filesystem::path config;
  bool cleanup = false;
  std::string metrics_bind_address = "127.0.0.1:10249";
  std::string healthz_bind_address = "0.0.0.0:10256";
  std::filesystem::path modules_root;            // "": /
  std::filesystem::path proc_sys = "/proc/sys";  // where sysctls are written
  std::string log_format = "text";               // text | json
  std::string log_level = "info";
};

// Prints help, version or an error and returns the exit code to end with; nullopt: go on.
std::optional<int> ParseOptions(int argc, char** argv, Options& options);

}  // namespace pointsman::agent
