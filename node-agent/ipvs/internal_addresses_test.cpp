#include "node-agent/ipvs/internal_addresses.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace pointsman::agent::ipvs {
namespace {

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}

// What the kernel makes of them is in external_addresses_test.cpp.
TEST(InternalAddressesTest, APrefixTakesTheUpperBits) {
  EXPECT_EQ(MappedAddress(Ip("203.0.113.7")), Ip("247.0.113.7"));
  EXPECT_EQ(NearMappedAddress(Ip("203.0.113.7")), Ip("251.0.113.7"));
  EXPECT_EQ(MappedAddress(Ip("0.0.0.0")), Ip("244.0.0.0"));
  EXPECT_EQ(MappedAddress(Ip("255.255.255.255")), Ip("247.255.255.255"));
  EXPECT_EQ(MappedAddress(Ip("2001:db8:1:2::7")), Ip("fd70:6f6d:1:2::7"));
  EXPECT_EQ(NearMappedAddress(Ip("2001:db8:1:2::7")), Ip("fd70:6f6e:1:2::7"));
  EXPECT_EQ(SpareMappedAddress(Ip("203.0.113.7")), Ip("252.0.113.7"));
  EXPECT_EQ(NearSpareMappedAddress(Ip("203.0.113.7")), Ip("253.0.113.7"));
  EXPECT_EQ(NearSpareMappedAddress(Ip("203.255.255.255")), Ip("253.255.255.255"));
  EXPECT_EQ(SpareMappedAddress(Ip("2001:db8:1:2::7")), Ip("fd70:6f70:1:2::7"));
  EXPECT_EQ(NearSpareMappedAddress(Ip("2001:db8:1:2::7")), Ip("fd70:6f71:1:2::7"));
}

TEST(InternalAddressesTest, AllAreInTheirPrefixesAndNoneInTwo) {
  for (const char* text : {"10.96.0.1", "10.111.255.254", "192.168.3.4", "0.0.0.0",
                           "255.255.255.255", "fd00:10:96::10", "ffff:ffff::ffff", "::"}) {
    const net::IpAddress ip = Ip(text);
    const net::Family family = ip.family();
    const std::vector<std::pair<net::IpPrefix, net::IpAddress>> mapped = {
        {MapPrefix(family), MappedAddress(ip)},
        {NearMapPrefix(family), NearMappedAddress(ip)},
        {SpareMapPrefix(family), SpareMappedAddress(ip)},
        {NearSpareMapPrefix(family), NearSpareMappedAddress(ip)}};
    for (const auto& [prefix, own] : mapped) {
      for (const auto& [other, address] : mapped)
        EXPECT_EQ(prefix.Contains(address), own == address) << text << " " << other.ToString();
    }
    EXPECT_EQ(MappedAddress(NearMappedAddress(ip)), MappedAddress(ip)) << text;
  }
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    for (const net::IpPrefix& prefix : {MapPrefix(family), NearMapPrefix(family),
                                        SpareMapPrefix(family), NearSpareMapPrefix(family)}) {
      EXPECT_FALSE(prefix.Contains(NodePortAddress(family)));
      EXPECT_FALSE(prefix.Contains(NearNodePortAddress(family)));
      // Userspace mode's.
      for (const char* text : {"240.112.0.1", "240.115.255.254", "fd70:6f69:6e74:736d::3:1"})
        EXPECT_FALSE(prefix.Contains(Ip(text))) << text;
    }
  }
}

}  // namespace
}  // namespace pointsman::agent::ipvs
