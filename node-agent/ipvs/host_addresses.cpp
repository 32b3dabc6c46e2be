#include "node-agent/ipvs/host_addresses.h"

#include <algorithm>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <utility>

#include "base/unique_fd.h"
#include "kube/net/socket_address.h"
#include "node-agent/netlink/address.h"
#include "node-agent/netlink/link.h"

namespace pointsman::agent::ipvs {
namespace {

// kube-proxy binds what are Services' addresses too, and leaves them behind: no address of the
// node, and none to rely on.
std::vector<netlink::InterfaceAddress> OfTheNode(netlink::Socket& route, int device_index) {
  const std::optional<netlink::Link> of_kube_proxy = netlink::FindLink(route, "kube-ipvs0");
  const int of_kube_proxy_index = of_kube_proxy ? of_kube_proxy->index : 0;
  std::vector<netlink::InterfaceAddress> addresses = netlink::InterfaceAddresses(route);
  std::erase_if(addresses, [&](const netlink::InterfaceAddress& entry) {
    return entry.interface_index == device_index || entry.interface_index == of_kube_proxy_index;
  });
  return addresses;
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
  std::vector<net::IpAddress> addresses;
  for (const netlink::InterfaceAddress& entry : OfTheNode(route, device_index))
    addresses.push_back(entry.address);
  return HostAddresses(std::move(addresses));
}

std::optional<net::IpAddress> SourceTo(const net::IpAddress& ip) {
  const sockaddr_storage to = net::ToSocketAddress(ip, 9);
  const UniqueFd fd(::socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return std::nullopt;
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  const bool known = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to),
                               net::SocketAddressSize(ip)) == 0 &&
                     ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size) == 0;
  if (!known) return std::nullopt;
  return net::FromSocketAddress(own).ip;
}

std::optional<net::IpAddress> UsualSource(netlink::Socket& route, int device_index) {
  const auto elsewhere = SourceTo(net::IpAddress::V4(0xc0000201));  // RFC 5737: nobody's
  if (elsewhere) return elsewhere;
  // Without a default route there may be one to the Services all the same, or none; the kernel's
  // own choice for such a case is the first address too (inet_select_addr).
  for (const netlink::InterfaceAddress& entry : OfTheNode(route, device_index)) {
    if (entry.address.is_v4() && entry.scope == RT_SCOPE_UNIVERSE) return entry.address;
  }
  return std::nullopt;
}

}  // namespace pointsman::agent::ipvs
