#include "kube/net/socket_address.h"

#include <cstring>
#include <netinet/in.h>

#include <fmt/format.h>

namespace pointsman::net {

std::string IpPort::ToString() const {
  return ip.is_v4() ? fmt::format("{}:{}", ip.ToString(), port)
                    : fmt::format("[{}]:{}", ip.ToString(), port);
}

sockaddr_storage ToSocketAddress(const IpAddress& ip, uint16_t port) {
  sockaddr_storage storage{};
  if (ip.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, ip.data(), 4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    std::memcpy(&v6->sin6_addr, ip.data(), 16);
  }
  return storage;
}

socklen_t SocketAddressSize(const IpAddress& ip) {
  return ip.is_v4() ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

IpPort FromSocketAddress(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return {IpAddress::FromBytes(&v4.sin_addr, 4), ntohs(v4.sin_port)};
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  return {IpAddress::FromBytes(&v6.sin6_addr, 16), ntohs(v6.sin6_port)};
}

}  // namespace pointsman::net
