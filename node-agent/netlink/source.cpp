#include "node-agent/netlink/source.h"

#include <algorithm>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "kube/net/socket_address.h"
#include "node-agent/netlink/address.h"

namespace pointsman::agent::netlink {

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

std::optional<net::IpAddress> UsualSource(Socket& route, const std::vector<int>& not_of) {
  const auto elsewhere = SourceTo(net::IpAddress::V4(0xc0000201));  // RFC 5737: nobody's
  if (elsewhere) return elsewhere;
  // Without a default route there may be one to the Services all the same, or none; the kernel's
  // own choice for such a case is the first address too (inet_select_addr).
  for (const InterfaceAddress& entry : InterfaceAddresses(route)) {
    if (entry.address.is_v4() && entry.scope == RT_SCOPE_UNIVERSE &&
        std::find(not_of.begin(), not_of.end(), entry.interface_index) == not_of.end())
      return entry.address;
  }
  return std::nullopt;
}

}  // namespace pointsman::agent::netlink
