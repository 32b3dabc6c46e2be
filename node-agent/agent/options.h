// The agent's command line.
#pragma once

#include <chrono>
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
  bool cleanup_kube_proxy = false;
  // How long that waits at most for the connections that IPVS has.
  std::chrono::nanoseconds kube_proxy_drain_timeout = std::chrono::minutes(5);
  bool list = false;
  std::optional<std::string> list_format;  // text | json; not given: text
  // The API server; overrides the kubeconfig's. Without a kubeconfig it is asked without
  // credentials, as kube-proxy does.
  std::string master;
  // "address:port"; "": off. Not given: as the configuration file says, else kube-proxy's ports.
  std::optional<std::string> metrics_bind_address;
  std::optional<std::string> healthz_bind_address;
  std::string agent_bind_address;       // its own /livez and /metrics; "": off
  std::string livez_bind_address;       // /livez alone, for the kubelet's probes; "": off
  bool bind_address_hard_fail = false;  // a port that cannot be bound ends the process
  // Where a launcher in another container of this Pod starts the forwarders of userspace mode. Then
  // they end with the Pod, and an agent that is told to end leaves their work to the kernel. "":
  // the agent starts them itself, and they outlive it.
  std::string forwarder_launcher;
  // Requests to the API server a second, and at once. Negative: no limit. In the place of
  // kube-proxy they are the configuration's (5 and 10 by default, as client-go's); an agent of the
  // operator's, which also writes its NodeProxy's status and is told what to do by it, has more.
  double api_qps = 50;
  int api_burst = 100;
  // How often the model is made anew from all objects and the kernel compared with it, however long
  // the mode's syncPeriod is.
  std::chrono::nanoseconds config_sync_period = std::chrono::minutes(15);
  std::filesystem::path modules_root;            // "": /
  std::filesystem::path proc_sys = "/proc/sys";  // where sysctls are written
  std::optional<std::string> log_format;         // text | json; not given: text
  std::optional<std::string> log_level;          // not given: by verbosity
  std::optional<int> verbosity;                  // klog's
  // kube-proxy's flags that were given. Without `config`, those that configure it make the agent
  // run standalone with what they say.
  KubeProxyFlagValues kube_proxy_flags;
};

// Prints help, version or an error and returns the exit code to end with; nullopt: go on. Flags may
// be spelled with underscores, as kube-proxy takes them: --cluster_cidr.
std::optional<int> ParseOptions(int argc, char** argv, Options& options);

}  // namespace pointsman::agent
