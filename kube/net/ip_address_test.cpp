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

// What Kubernetes' own parser (k8s.io/utils/internal/third_party/forked/golang/net) gives for them.
TEST(IpAddress, ReadsLegacySpellingsAsKubernetesDoes) {
  const std::pair<const char*, const char*> spellings[] = {
      {"10.96.0.10", "10.96.0.10"},
      {"010.096.000.010", "10.96.0.10"},
      {"0000000010.0.0.08", "10.0.0.8"},
      {"00.0.0.000", "0.0.0.0"},
      {"100.010.20.200", "100.10.20.200"},
      {"::ffff:10.244.1.5", "10.244.1.5"},
      {"::FFFF:0a00:0001", "10.0.0.1"},
      {"::ffff:010.244.001.005", "10.244.1.5"},
      {"fd00::1", "fd00::1"},
      {"0fd00:000000:0::00001", "fd00::1"},
      {"::", "::"},
      {"::00000", "::"},
      {"64:ff9b::192.000.002.033", "64:ff9b::c000:221"},
  };
  for (const auto& [text, canonical] : spellings) {
    const auto address = IpAddress::ParseSloppy(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->ToString(), canonical) << text;
  }
  for (const char* text :
       {"", "0", "010", "10.0.0", "10.0.0.0.0", "10.0.0.256", "0x0a.0.0.1", "0a.0.0.1", " 10.0.0.1",
        "10.0.0.1 ", "-1.0.0.1", "+10.0.0.1", "10..0.1", "10.0.0.", "fe80::1%eth0", "fd00::1/64",
        "1:2:3:4:5:6:7:8:9", "::g", "010.0.0.1:80"}) {
    EXPECT_FALSE(IpAddress::ParseSloppy(text)) << text;
  }
  EXPECT_FALSE(IpAddress::ParseSloppy(std::string(1 << 20, '0').append("x")));
}

TEST(IpPrefix, ReadsLegacySpellingsAsKubernetesDoes) {
  const std::pair<const char*, const char*> spellings[] = {
      {"10.0.0.0/8", "10.0.0.0/8"},       {"010.001.002.003/016", "10.1.0.0/16"},
      {"0.0.0.0/00", "0.0.0.0/0"},        {"::ffff:10.1.2.3/104", "10.0.0.0/8"},
      {"::ffff:10.1.2.3/64", "::/64"},    {"fd00:00000::/064", "fd00::/64"},
      {"::ffff:0.0.0.0/96", "0.0.0.0/0"}, {"::/0", "::/0"},
  };
  for (const auto& [text, canonical] : spellings) {
    const auto prefix = IpPrefix::ParseSloppy(text);
    ASSERT_TRUE(prefix) << text;
    EXPECT_EQ(prefix->ToString(), canonical) << text;
  }
  for (const char* text : {"", "/", "10.0.0.0", "10.0.0.0/", "/8", "10.0.0.0/33", "10.0.0.0/-1",
                           "10.0.0.0/+8", "10.0.0.0/8x", "10.0.0.0/8/8", " 10.0.0.0/8",
                           "10.0.0.0/ 8", "fd00::/129", "10.0.0.0/99999999999"}) {
    EXPECT_FALSE(IpPrefix::ParseSloppy(text)) << text;
  }
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
