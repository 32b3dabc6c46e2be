// The agent's command line.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "node-agent/config/kube_proxy_flags.h"

namespace pointsman::agent {

struct Options {
  std::filesystem::path kubeconfig;  // "": $KUBECONFIG, else in-cluster
  std::string node_name;  // "": $NODE_NAME, else the host name in lower case, as kube-proxy
  // A KubeProxyConfiguration file: the agent runs standalone, as a drop-in for kube-proxy, and
  // needs neither operator nor NodeProxy.
  std::filesystem::path config;
  bool cleanup = false;
  // The API server; overrides the kubeconfig's. Without a kubeconfig it is asked without
  // credentials, as kube-proxy does.
  std::string master;
  // "address:port"; "": off. Not given: as the configuration file says, else kube-proxy's ports.
  std::optional<std::string> metrics_bind_address;
  std::optional<std::string> healthz_bind_address;
  std::string agent_bind_address;       // its own /livez and /metrics; "": off
  bool bind_address_hard_fail = false;  // a port that cannot be bound ends the process
  // Where a launcher in another container of this Pod starts the forwarders of userspace mode. Then
  // they end with the Pod, and an agent that is told to end leaves their work to the kernel. "":
  // the agent starts them itself, and they outlive it.
  std::string forwarder_launcher;
  std::filesystem::path modules_root;            // "": /
  std::filesystem::path proc_sys = "/proc/sys";  // where sysctls are written
  std::optional<std::string> log_format;         // text | json; not given: text
  std::optional<std::string> log_level;          // not given: by verbosity
  std::optional<int> verbosity;                  // klog's
  // kube-proxy's flags that were given. Without `config`, those that configure it make the agent
  // run standalone with what they say.
  KubeProxyFlagValues kube_proxy_flags;
};

// Prints help, version or an error and returns the exit code to end with; nullopt: go on.
std::optional<int> ParseOptions(int argc, char** argv, Options& options);

}  // namespace pointsman::agent
