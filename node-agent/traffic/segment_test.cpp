#include "node-agent/traffic/segment.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint8_t kSyn = 0x02;
constexpr uint8_t kRst = 0x04;
constexpr uint8_t kAck = 0x10;
constexpr uint8_t kFin = 0x01;

void Append(Bytes& bytes, const net::IpAddress& ip) {
  bytes.insert(bytes.end(), ip.data(), ip.data() + ip.size());
}

// As on the wire, as far as it matters here.
Bytes Packet(const net::IpPort& from, const net::IpPort& to, uint8_t flags, size_t ip_options = 0) {
  Bytes bytes;
  if (from.ip.is_v4()) {
    bytes = {static_cast<uint8_t>(0x45 + ip_options / 4), 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0};
  } else {
    bytes = {0x60, 0, 0, 0, 0, 20, 6, 64};
  }
  Append(bytes, from.ip);
  Append(bytes, to.ip);
  bytes.insert(bytes.end(), ip_options, 1);
  for (const uint16_t port : {from.port, to.port}) {
    bytes.push_back(static_cast<uint8_t>(port >> 8));
    bytes.push_back(static_cast<uint8_t>(port));
  }
  bytes.insert(bytes.end(), 8, 0);
  bytes.insert(bytes.end(), {0x50, flags, 0, 0, 0, 0, 0, 0});
  return bytes;
}

net::IpPort At(const std::string& ip, uint16_t port) {
  return {net::IpAddress::Parse(ip).value(), port};
}

std::optional<Segment> Parse(const Bytes& bytes) {
  return ParseSegment(bytes.data(), bytes.size());
}

TEST(SegmentTest, TheBeginningOfAConnectionIsKnownInBothFamilies) {
  for (const auto& [client, place] :
       {std::pair{At("10.244.1.2", 40'000), At("10.96.0.10", 80)},
        std::pair{At("fd00:244::2", 40'000), At("fd00:96::10", 8443)}}) {
    const auto syn = Parse(Packet(client, place, kSyn));
    ASSERT_TRUE(syn);
    EXPECT_EQ(syn->kind, Segment::Kind::kSyn);
    EXPECT_EQ(syn->source, client);
    EXPECT_EQ(syn->destination, place);
    EXPECT_EQ(Parse(Packet(place, client, kSyn | kAck))->kind, Segment::Kind::kSynAck);
    EXPECT_EQ(Parse(Packet(place, client, kRst | kAck))->kind, Segment::Kind::kReset);
    EXPECT_EQ(Parse(Packet(place, client, kAck)), std::nullopt);
    EXPECT_EQ(Parse(Packet(place, client, kFin | kAck)), std::nullopt);
  }
}

TEST(SegmentTest, OptionsOfIpAreSteppedOver) {
  const auto syn = Parse(Packet(At("10.244.1.2", 4000), At("10.96.0.10", 80), kSyn, 40));
  ASSERT_TRUE(syn);
  EXPECT_EQ(syn->destination.port, 80);
}

TEST(SegmentTest, WhatIsNoTcpOrALaterFragmentIsNone) {
  Bytes udp = Packet(At("10.244.1.2", 4000), At("10.96.0.10", 53), kSyn);
  udp[9] = 17;
  EXPECT_EQ(Parse(udp), std::nullopt);
  Bytes fragment = Packet(At("10.244.1.2", 4000), At("10.96.0.10", 80), kSyn);
  fragment[7] = 1;
  EXPECT_EQ(Parse(fragment), std::nullopt);
}

// Under AddressSanitizer this also shows that nothing is read behind the end.
TEST(SegmentTest, WhatIsCutShortOrMadeUpDoesNoHarm) {
  std::mt19937 random(1);
  for (const auto& place : {At("10.96.0.10", 80), At("fd00:96::10", 80)}) {
    const Bytes whole = Packet(place, place, kSyn);
    for (size_t size = 0; size < whole.size(); ++size) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_EQ(Parse(cut).has_value(), size + 6 >= whole.size()) << size;
    }
    for (int i = 0; i < 10'000; ++i) {
      Bytes odd(whole.begin(),
                whole.begin() + static_cast<std::ptrdiff_t>(random() % whole.size()));
      for (int k = 0; k < 3 && !odd.empty(); ++k)
        odd[random() % odd.size()] = static_cast<uint8_t>(random());
      const auto segment = Parse(odd);
      if (segment) {
        EXPECT_EQ(segment->source.ip.family(), segment->destination.ip.family());
      }
    }
  }
}

}  // namespace
}  // namespace pointsman::agent
