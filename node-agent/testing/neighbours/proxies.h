// What else sends connections on: kube-proxy, host ports, published ports.
#pragma once

#include <cstdint>
#include <string>

#include "kube/net/ip_address.h"
#include "node-agent/testing/neighbours/neighbour.h"

namespace pointsman::agent::testing {

// kube-proxy 1.36 in mode iptables (pkg/proxy/iptables/proxier.go, iptablesJumpChains) with one
// Service of one endpoint. Its jumps are first when they are made.
Neighbour KubeProxy(const std::string& cluster_ip, uint16_t port, const std::string& endpoint);

// containernetworking/plugins 3d27709, plugins/meta/portmap/portmap_iptables.go, with one host
// port; put first here, as an administrator or CRI-O's KUBE-HOSTPORTS may be.
Neighbour Portmap(uint16_t host_port, const std::string& to);
// The same program with nftables (portmap_nftables.go): in a table of its own.
Neighbour PortmapNft(net::Family family, uint16_t host_port, const std::string& to);
// Docker, moby/moby b985e23: a published port.
Neighbour DockerPublished(net::Family family, uint16_t host_port, const std::string& to);

}  // namespace pointsman::agent::testing
