// What a kube-proxy has in a node's kernel in its other modes, with one Service, in the structure
// that it gives it. (Mode iptables: proxies.h.)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pointsman::agent::testing {

struct ProxiedService {
  std::string cluster_ip;
  uint16_t port = 0;
  std::vector<std::string> endpoints;  // "10.244.4.2:8080"
  std::string node_ip;
  uint16_t node_port = 0;
  std::string cluster_cidr;
};

// kubernetes 1.33, pkg/proxy/ipvs/proxier.go and ipset.go: kube-ipvs0, virtual servers, ipsets,
// rules of iptables-legacy. Needs a kernel with IPVS, whose modules are loaded.
void MakeKubeProxyIpvs(const ProxiedService& service);
// kubernetes 1.33, pkg/proxy/nftables/proxier.go: the table "ip kube-proxy".
void MakeKubeProxyNftables(const ProxiedService& service);

}  // namespace pointsman::agent::testing
