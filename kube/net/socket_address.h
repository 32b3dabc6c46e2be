// IP addresses with ports, as the socket calls take and give them.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <sys/socket.h>

#include "kube/net/ip_address.h"

namespace pointsman::net {

struct IpPort {
  IpAddress ip;
  uint16_t port = 0;
  auto operator<=>(const IpPort&) const = default;
  std::string ToString() const;  // "10.0.0.1:80", "[fd00::1]:80"
};

// AF_INET or AF_INET6; only the first SocketAddressSize(ip) bytes mean something.
sockaddr_storage ToSocketAddress(const IpAddress& ip, uint16_t port);
socklen_t SocketAddressSize(const IpAddress& ip);
// `address` is of one of these families. An IPv4-mapped IPv6 address stays IPv6.
IpPort FromSocketAddress(const sockaddr_storage& address);

}  // namespace pointsman::net
