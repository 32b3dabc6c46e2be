#include "node-agent/model/node_network.h"

#include <algorithm>
#include <string_view>

namespace pointsman::agent {
namespace {

bool Contains(const std::vector<net::IpPrefix>& cidrs, const net::IpAddress& address) {
  return std::any_of(cidrs.begin(), cidrs.end(),
                     [&](const net::IpPrefix& cidr) { return cidr.Contains(address); });
}

// Whether the CIDRs that were given let `address` through.
bool IsChosen(const net::IpAddress& address, const std::vector<net::IpPrefix>& cidrs) {
  bool family_given = false;
  for (const net::IpPrefix& cidr : cidrs) {
    if (cidr.Contains(address)) return true;
    family_given |= cidr.family() == address.family();
  }
  return !family_given;
}

std::vector<net::IpAddress> PrimaryAddresses(const kube::Node* node) {
  std::vector<net::IpAddress> primary;
  if (node == nullptr) return primary;
  for (const net::IpAddress& ip :
       node->internal_ips.empty() ? node->external_ips : node->internal_ips) {
    const bool first_of_family =
        std::none_of(primary.begin(), primary.end(),
                     [&ip](const net::IpAddress& other) { return other.family() == ip.family(); });
    if (first_of_family) primary.push_back(ip);
  }
  return primary;
}

// Any CIDR that shares addresses with 127.0.0.0/8, or no IPv4 CIDR at all and not "primary".
bool CoversLocalhost(const std::vector<net::IpPrefix>& cidrs, bool primary) {
  const net::IpPrefix localhost(net::IpAddress::V4(0x7f000000), 8);
  bool ipv4_given = false;
  for (const net::IpPrefix& cidr : cidrs) {
    if (cidr.family() != net::Family::kIPv4) continue;
    ipv4_given = true;
    if (cidr.Contains(localhost.address()) || localhost.Contains(cidr.address())) return true;
  }
  return !ipv4_given && !primary;
}

// NodeLocal DNSCache's interface, unless it was told another name.
constexpr std::string_view kDnsCacheInterface = "nodelocaldns";

}  // namespace

NodeNetwork ChooseNodeNetwork(const std::string& node_name,
                              const std::vector<HostAddress>& addresses,
                              const kube::ProxySettings& settings, const kube::Node* node) {
  NodeNetwork network;
  network.node_name = node_name;
  network.localhost_node_ports =
      settings.localhost_node_ports &&
      CoversLocalhost(settings.node_port_addresses, settings.node_port_primary);
  network.every_address = settings.node_port_addresses.empty() && !settings.node_port_primary;
  const std::vector<net::IpAddress> primary = PrimaryAddresses(node);
  network.source_addresses = primary;
  std::sort(network.source_addresses.begin(), network.source_addresses.end());
  std::vector<net::IpAddress>& chosen = network.node_port_addresses;
  for (const HostAddress& host : addresses) {
    const net::IpAddress& ip = host.address;
    if (ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast()) continue;
    if (!ip.is_v4() && ip.IsLinkLocal()) continue;
    if (host.interface_name == kDnsCacheInterface && !ip.IsLinkLocal())
      network.dns_cache_addresses.push_back(ip);
    if (host.interface_name.starts_with("kube-ipvs")) continue;
    const bool wanted = settings.node_port_primary
                            ? std::find(primary.begin(), primary.end(), ip) != primary.end() ||
                                  Contains(settings.node_port_addresses, ip)
                            : IsChosen(ip, settings.node_port_addresses);
    if (wanted) chosen.push_back(ip);
  }
  std::sort(network.dns_cache_addresses.begin(), network.dns_cache_addresses.end());
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return network;
}

}  // namespace pointsman::agent
