#include "node-agent/ipvs/host_addresses.h"

#include <algorithm>
#include <sys/socket.h>
#include <utility>

#include "base/unique_fd.h"
#include "kube/net/socket_address.h"
#include "node-agent/netlink/address.h"
#include "node-agent/netlink/link.h"

namespace pointsman::agent::ipvs {

HostAddresses::HostAddresses(std::vector<net::IpAddress> addresses)
    : addresses_(std::move(addresses)) {
  std::sort(addresses_.begin(), addresses_.end());
}

bool HostAddresses::Contains(const net::IpAddress& ip) const {
  return std::binary_search(addresses_.begin(), addresses_.end(), ip);
}

HostAddresses ReadHostAddresses(netlink::Socket& route, int device_index) {
  // kube-proxy binds what are Services' addresses too, and leaves them behind: no address of the
  // node, and none to rely on.
  const std::optional<netlink::Link> of_kube_proxy = netlink::FindLink(route, "kube-ipvs0");
  const int of_kube_proxy_index = of_kube_proxy ? of_kube_proxy->index : 0;
  std::vector<net::IpAddress> addresses;
  for (const netlink::InterfaceAddress& address : netlink::InterfaceAddresses(route)) {
    if (address.interface_index != device_index && address.interface_index != of_kube_proxy_index)
      addresses.push_back(address.address);
  }
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

std::optional<net::IpAddress> UsualSource() {
  return SourceTo(net::IpAddress::V4(0xc0000201));  // 192.0.2.1, of RFC 5737: nobody's
}

}  // namespace pointsman::agent::ipvs
