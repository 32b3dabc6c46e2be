// What a kube-proxy has in a node's kernel in each of its modes, in the structure that it gives it,
// for as many Services as are asked for. (proxies.h has that of mode iptables as a neighbour.)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node-agent/testing/neighbours/neighbour.h"

namespace pointsman::agent::testing {

// One port of a Service; all endpoints are ready, and there is one at least.
struct ProxiedService {
  std::string cluster_ip;
  uint16_t port = 0;
  std::vector<std::string> endpoints;  // "10.244.4.2:8080"
  std::string node_ip;
  uint16_t node_port = 0;  // 0: none
  std::string cluster_cidr;
  std::string name = "default/web";
  std::string port_name = "http";
  std::string protocol = "tcp";  // or "udp"
  // In nftables mode: a chain for each endpoint, as every kube-proxy before 1.36 has it, and a
  // newer one where the Service has session affinity.
  bool endpoint_chains = false;
};

// kubernetes 1.33, pkg/proxy/iptables/proxier.go. Neighbour::Sync writes it.
Neighbour KubeProxyIptables(const std::vector<ProxiedService>& services);

// kubernetes 1.33, pkg/proxy/ipvs/proxier.go and ipset.go: kube-ipvs0, virtual servers, ipsets,
// rules of iptables-legacy. Needs a kernel with IPVS, whose modules are loaded. What is there
// already stays.
void MakeKubeProxyIpvs(const std::vector<ProxiedService>& services);
inline void MakeKubeProxyIpvs(const ProxiedService& service) {
  MakeKubeProxyIpvs(std::vector{service});
}

// kubernetes 1.33, pkg/proxy/nftables/proxier.go: the table "ip kube-proxy", in one transaction in
// place of one that is there.
void MakeKubeProxyNftables(const std::vector<ProxiedService>& services);
inline void MakeKubeProxyNftables(const ProxiedService& service) {
  MakeKubeProxyNftables(std::vector{service});
}

// What a kube-proxy since 1.29 removes at its start (cmd/kube-proxy/app/server_linux.go,
// platformCleanup): in mode nftables what the two others made, in those the tables of mode
// nftables.
void RemoveKubeProxyIptablesAndIpvs();
void RemoveKubeProxyNftables();

}  // namespace pointsman::agent::testing
