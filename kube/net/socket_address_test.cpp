#include "kube/net/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <gtest/gtest.h>

namespace pointsman::net {
namespace {

TEST(SocketAddress, IsWhatTheKernelReads) {
  const sockaddr_storage v4 = ToSocketAddress(IpAddress::Parse("10.96.0.10").value(), 53);
  EXPECT_EQ(v4.ss_family, AF_INET);
  EXPECT_EQ(reinterpret_cast<const sockaddr_in&>(v4).sin_port, htons(53));
  EXPECT_EQ(reinterpret_cast<const sockaddr_in&>(v4).sin_addr.s_addr, inet_addr("10.96.0.10"));
  const sockaddr_storage v6 = ToSocketAddress(IpAddress::Parse("fd00::10").value(), 30080);
  EXPECT_EQ(v6.ss_family, AF_INET6);
  EXPECT_EQ(reinterpret_cast<const sockaddr_in6&>(v6).sin6_port, htons(30080));
  EXPECT_EQ(reinterpret_cast<const sockaddr_in6&>(v6).sin6_addr.s6_addr[15], 0x10);
}

TEST(SocketAddress, IsWrittenAsInAUrl) {
  EXPECT_EQ((IpPort{IpAddress::Parse("10.96.0.10").value(), 53}).ToString(), "10.96.0.10:53");
  EXPECT_EQ((IpPort{IpAddress::Parse("fd00::10").value(), 443}).ToString(), "[fd00::10]:443");
}

TEST(SocketAddress, ComesBackAsItWent) {
  for (const char* text : {"0.0.0.0", "10.96.0.10", "::", "fd00::10", "::ffff:10.0.0.1"}) {
    const IpPort place{IpAddress::Parse(text).value(), 30080};
    EXPECT_EQ(FromSocketAddress(ToSocketAddress(place.ip, place.port)), place) << text;
    EXPECT_EQ(SocketAddressSize(place.ip),
              place.ip.is_v4() ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
  }
}

}  // namespace
}  // namespace pointsman::net
