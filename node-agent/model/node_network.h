// Which of a node's addresses answer node ports: a pure function of the interfaces' addresses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/node.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// One address of one network interface.
struct HostAddress {
  net::IpAddress address;
  uint8_t prefix_length = 0;
  std::string interface_name;
};

// As kube-proxy's nodePortAddresses (pkg/proxy/util/nodeport_addresses.go), a family at a time:
//  - CIDRs of the family: the addresses in them; none of the family: all of its addresses.
//  - "primary": the first InternalIP of each family in the Node's status (or, when it has no
//    InternalIP at all, ExternalIP), if an interface has it. `node` null (not known yet): none.
// Never: loopback addresses (for 127.0.0.1 there is `localhost_node_ports`: asked for, and
// 127.0.0.0/8 not excluded by the CIDRs), IPv6 link-local ones, and addresses of interfaces named
// kube-ipvs*, which are those of Services.
//
// The node's own address in loadBalancerSourceRanges is "primary" too, as kube-proxy's node IP is
// (pkg/proxy/iptables/proxier.go: allowFromNode), whatever answers node ports.
//
// The default is the same in each mode. (kube-proxy's nftables mode means "primary" when nothing is
// said; see LoadKubeProxyConfiguration.)
NodeNetwork ChooseNodeNetwork(const std::string& node_name,
                              const std::vector<HostAddress>& addresses,
                              const kube::ProxySettings& settings, const kube::Node* node);

}  // namespace pointsman::agent
