#include "node-agent/ipvs/host_addresses.h"

#include <algorithm>
#include <utility>

#include "node-agent/netlink/address.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/source.h"

namespace pointsman::agent::ipvs {
namespace {

// kube-proxy binds what are Services' addresses too, and leaves them behind: no address of the
// node, and none to rely on.
std::vector<int> NotOfTheNode(netlink::Socket& route, int device_index) {
  const std::optional<netlink::Link> of_kube_proxy = netlink::FindLink(route, "kube-ipvs0");
  return {device_index, of_kube_proxy ? of_kube_proxy->index : 0};
}

}  // namespace

HostAddresses::HostAddresses(std::vector<net::IpAddress> addresses)
    : addresses_(std::move(addresses)) {
  std::sort(addresses_.begin(), addresses_.end());
}

bool HostAddresses::Contains(const net::IpAddress& ip) const {
  return std::binary_search(addresses_.begin(), addresses_.end(), ip);
}

HostAddresses ReadHostAddresses(netlink::Socket& route, int device_index) {
  const std::vector<int> not_of_the_node = NotOfTheNode(route, device_index);
  std::vector<net::IpAddress> addresses;
  for (const netlink::InterfaceAddress& entry : netlink::InterfaceAddresses(route)) {
    if (std::find(not_of_the_node.begin(), not_of_the_node.end(), entry.interface_index) ==
        not_of_the_node.end())
      addresses.push_back(entry.address);
  }
  return HostAddresses(std::move(addresses));
}

std::optional<net::IpAddress> UsualSource(netlink::Socket& route, int device_index) {
  return netlink::UsualSource(route, NotOfTheNode(route, device_index));
}

}  // namespace pointsman::agent::ipvs
