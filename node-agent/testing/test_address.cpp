#include "node-agent/testing/test_address.h"

#include <cstring>

#include "base/throw_errno.h"
#include "kube/net/socket_address.h"

namespace pointsman::agent::testing {

TestAddress::TestAddress(const std::string& ip, uint16_t port) {
  const net::IpAddress address = net::IpAddress::Parse(ip).value();
  storage_ = net::ToSocketAddress(address, port);
  size_ = net::SocketAddressSize(address);
}

TestAddress TestAddress::Any(int family, uint16_t port) {
  return {family == AF_INET ? "0.0.0.0" : "::", port};
}

std::string AddressText(const sockaddr_storage& address) {
  const net::IpAddress ip = net::FromSocketAddress(address).ip;
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const bool mapped = !ip.is_v4() && std::memcmp(ip.data(), kMapped, sizeof kMapped) == 0;
  return (mapped ? net::IpAddress::FromBytes(ip.data() + 12, 4) : ip).ToString();
}

UniqueFd SocketIn(const NetNamespace& where, int family, int type, int protocol) {
  UniqueFd fd;
  where.Run([&] {
    fd.Reset(socket(family, type | SOCK_CLOEXEC, protocol));
    if (!fd) ThrowErrno("socket");
  });
  return fd;
}

}  // namespace pointsman::agent::testing
