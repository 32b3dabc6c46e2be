#include "node-agent/ipvs/internal_addresses.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <vector>

#include <gtest/gtest.h>

namespace pointsman::agent::ipvs {
namespace {

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}

TEST(InternalAddressesTest, NoTwoClusterIpsOfTheLargestRangeShareOne) {
  const net::IpPrefix prefix = InternalPrefixes(net::Family::kIPv4).back();
  std::vector<bool> seen(1U << (32 - prefix.length()));
  for (uint32_t i = 0; i < 1U << 20; ++i) {
    const net::IpAddress ip = net::IpAddress::V4(0x0a600000 + i);  // 10.96.0.0/12
    for (const net::IpAddress& address : {ExternalAddress(ip), NearExternalAddress(ip)}) {
      const uint32_t at = address.v4_host_order() - prefix.address().v4_host_order();
      ASSERT_LT(at, seen.size()) << ip.ToString();
      ASSERT_FALSE(seen[at]) << ip.ToString();
      seen[at] = true;
    }
  }
}

TEST(InternalAddressesTest, Ipv6ClusterIpsOfOneSubnetShareNone) {
  std::unordered_set<net::IpAddress> seen;
  for (int i = 0; i < 1 << 16; ++i) {
    char text[64];
    snprintf(text, sizeof(text), "fd00:10:96::%x:%x", i & 0xf, i >> 4);
    const net::IpAddress ip = Ip(text);
    for (const net::IpAddress& address : {ExternalAddress(ip), NearExternalAddress(ip)})
      ASSERT_TRUE(seen.insert(address).second) << text;
  }
}

// Ranges whose low bits are the same.
TEST(InternalAddressesTest, RangesAreKeptApart) {
  EXPECT_NE(ExternalAddress(Ip("10.96.0.1")), ExternalAddress(Ip("10.224.0.1")));
  EXPECT_NE(ExternalAddress(Ip("10.96.0.1")), ExternalAddress(Ip("172.32.0.1")));
  EXPECT_NE(ExternalAddress(Ip("fd00:1::1")), ExternalAddress(Ip("fd00:2::1")));
}

TEST(InternalAddressesTest, AllAreInTheInternalPrefixes) {
  std::vector<net::IpAddress> addresses{
      NodePortAddress(net::Family::kIPv4), NodePortAddress(net::Family::kIPv6),
      NearNodePortAddress(net::Family::kIPv4), NearNodePortAddress(net::Family::kIPv6)};
  for (const char* text : {"10.96.0.1", "10.111.255.254", "192.168.3.4", "0.0.0.0",
                           "255.255.255.255", "fd00:10:96::10", "ffff:ffff::ffff", "::"}) {
    addresses.push_back(ExternalAddress(Ip(text)));
    addresses.push_back(NearExternalAddress(Ip(text)));
  }
  for (const net::IpAddress& address : addresses) {
    const auto prefixes = InternalPrefixes(address.family());
    EXPECT_TRUE(std::any_of(prefixes.begin(), prefixes.end(), [&](const net::IpPrefix& p) {
      return p.Contains(address);
    })) << address.ToString();
  }
  // Userspace mode's addresses are others.
  for (const char* text : {"240.112.0.1", "240.115.255.254", "fd70:6f69:6e74:736d::3:1"}) {
    for (const net::IpPrefix& prefix : InternalPrefixes(Ip(text).family()))
      EXPECT_FALSE(prefix.Contains(Ip(text))) << text;
  }
}

}  // namespace
}  // namespace pointsman::agent::ipvs
