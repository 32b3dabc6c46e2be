// kube-proxy as a process, for tests of whole nodes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/testing/neighbours/kube_proxy.h"

namespace pointsman::agent::testing {

// What kube-proxy reads of its file, a KubeProxyConfiguration, once, at its start.
struct KubeProxyFile {
  std::string mode;                  // "iptables", "ipvs", "nftables"
  std::string healthz_bind_address;  // with port
  std::string metrics_bind_address;
  std::string cluster_cidr;
};
// With kube-proxy's defaults. Throws std::invalid_argument for what is no such file, or of an
// unknown mode; an unknown field is nothing to it.
KubeProxyFile ParseKubeProxyFile(std::string_view text);

struct KubeProxyOptions {
  std::vector<ProxiedService> services;
  // nullopt: without one, as a kube-proxy before 1.29, which removes nothing at its start. It has
  // its usual ports then.
  std::optional<KubeProxyFile> file;
  std::string mode;  // without a file: "iptables", "ipvs", or "": ipvs where the kernel has it
  // Has somebody listen once the rules are written and, with a file, its two servers are up.
  uint16_t ready_port = 0;
};

// Until SIGTERM, whereupon what it wrote stays. What is gone of it is written again. `/healthz`
// answers 200, before anything is written too, and `/proxyMode` the mode; while somebody else has
// their ports they are tried again. Throws std::runtime_error when the kernel cannot run the mode.
void RunKubeProxy(const KubeProxyOptions& options);

// [{"name": "default/web", "portName": "tcp", "protocol": "tcp", "clusterIP": …, "port": 80,
// "nodePort": 30080, "endpoints": ["10.244.1.2:8080"]}]; "portName" and "nodePort" may be left out.
// Throws nlohmann::json::exception, std::invalid_argument.
std::vector<ProxiedService> ParseProxiedServices(const std::string& text,
                                                 const std::string& node_ip,
                                                 const std::string& cluster_cidr);

}  // namespace pointsman::agent::testing
