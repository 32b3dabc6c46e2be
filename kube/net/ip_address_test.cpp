#include "kube/net/ip_address.h"

#include <gtest/gtest.h>

namespace pointsman::net {
namespace {

TEST(IpAddress, ParsesAndPrintsCanonicalText) {
  EXPECT_EQ(IpAddress::Parse("10.96.0.1")->ToString(), "10.96.0.1");
  EXPECT_EQ(IpAddress::Parse("FD00:0:0::0:A")->ToString(), "fd00::a");
  EXPECT_EQ(IpAddress::Parse("::ffff:1.2.3.4")->family(), Family::kIPv6);
}

TEST(IpAddress, RefusesWhatIsNoAddress) {
  for (const char* text : {"", " ", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1 ", "10.0.0.1/8",
                           "localhost", "fe80::1%eth0", ":::", "1:2:3:4:5:6:7:8:9"}) {
    EXPECT_FALSE(IpAddress::Parse(text)) << text;
  }
  EXPECT_FALSE(IpAddress::Parse(std::string_view("10.0.0.1\0x", 10)));
}

TEST(IpAddress, KnowsItsKind) {
  EXPECT_TRUE(IpAddress::Parse("127.3.2.1")->IsLoopback());
  EXPECT_TRUE(IpAddress::Parse("::1")->IsLoopback());
  EXPECT_FALSE(IpAddress::Parse("::2")->IsLoopback());
  EXPECT_TRUE(IpAddress::Parse("febf::1")->IsLinkLocal());
  EXPECT_FALSE(IpAddress::Parse("fec0::1")->IsLinkLocal());
  EXPECT_TRUE(IpAddress::Parse("239.1.1.1")->IsMulticast());
  EXPECT_EQ(IpAddress::V4(0x0a600001).ToString(), "10.96.0.1");
}

TEST(IpPrefix, ClearsHostBitsAndContains) {
  const auto prefix = IpPrefix::Parse("10.244.3.7/22");
  ASSERT_TRUE(prefix);
  EXPECT_EQ(prefix->ToString(), "10.244.0.0/22");
  EXPECT_TRUE(prefix->Contains(*IpAddress::Parse("10.244.3.255")));
  EXPECT_FALSE(prefix->Contains(*IpAddress::Parse("10.244.4.0")));
  EXPECT_FALSE(prefix->Contains(*IpAddress::Parse("fd00::1")));
  EXPECT_TRUE(IpPrefix::Parse("0.0.0.0/0")->Contains(*IpAddress::Parse("8.8.8.8")));
  EXPECT_EQ(IpPrefix::Parse("fd00:1:2:3:4::/63")->ToString(), "fd00:1:2:2::/63");
}

TEST(IpPrefix, RefusesWhatIsNoPrefix) {
  for (const char* text : {"10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08",
                           "/8", "fd00::/129", "10.0.0.0/8x", "10.0.0.0/256"}) {
    EXPECT_FALSE(IpPrefix::Parse(text)) << text;
  }
}

}  // namespace
}  // namespace pointsman::net
