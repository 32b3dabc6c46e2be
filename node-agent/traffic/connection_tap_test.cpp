// With real packets: what crosses this node is seen, whatever becomes of it.
#include "node-agent/traffic/connection_tap.h"

#include <chrono>
#include <netinet/in.h>
#include <optional>
#include <set>
#include <string>
#include <sys/socket.h>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "kube/net/socket_address.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_address.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent {
namespace {

using testing::AskTcp;
using testing::AskUdp;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::RunTool;
using testing::TestNetwork;

class ConnectionTapTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    testing::EnterFreshMounts({"/run"});
    RunTool({"ip", "link", "set", "lo", "up"});
    RunTool({"sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"});
    network_.emplace();
    network_->AddHost("tapa", "10.244.1.2", "10.244.1.1");
    network_->AddAddress("tapa", "fd00:244:1::2", "fd00:244:1::1");
    network_->AddHost("tapb", "10.244.2.2", "10.244.2.1");
    network_->AddAddress("tapb", "fd00:244:2::2", "fd00:244:2::1");
    network_->Serve("tapb", "10.244.2.2", 8080);
    network_->Serve("tapb", "fd00:244:2::2", 8080);
    // IPv6 begins when the links have looked for duplicates of their own addresses.
    int tries = 10;
    while (!AskTcp("tapa", "fd00:244:2::2", 8080).ok() && --tries > 0) {
    }
    ASSERT_GT(tries, 0);
  }
  // "in SYN 10.244.2.2:8080": to whom, and of answers from whom.
  static std::set<std::string> Seen(ConnectionTap& tap) {
    std::set<std::string> seen;
    tap.Read([&](const Segment& segment, bool leaves, std::chrono::nanoseconds age) {
      EXPECT_GE(age.count(), 0);
      EXPECT_LT(age, std::chrono::seconds(10));
      const char* const way = leaves ? "out" : "in";
      switch (segment.kind) {
        case Segment::Kind::kSyn:
          seen.insert(fmt::format("{} SYN {}", way, segment.destination.ToString()));
          break;
        case Segment::Kind::kSynAck:
          seen.insert(fmt::format("{} SYN-ACK {}", way, segment.source.ToString()));
          break;
        case Segment::Kind::kReset:
          seen.insert(fmt::format("{} RST {}", way, segment.source.ToString()));
          break;
      }
    });
    return seen;
  }

  std::optional<TestNetwork> network_;
};

TEST_F(ConnectionTapTest, AQuestionAndItsAnswerAreSeenInBothFamilies) {
  ConnectionTap tap;
  for (const std::string ip : {"10.244.2.2", "fd00:244:2::2"}) {
    EXPECT_TRUE(AskTcp("tapa", ip, 8080).ok());
    const std::string place = net::IpPort{net::IpAddress::Parse(ip).value(), 8080}.ToString();
    const auto seen = Seen(tap);
    EXPECT_THAT(seen, Contains("in SYN " + place));
    EXPECT_THAT(seen, Contains("out SYN-ACK " + place));
  }
  EXPECT_FALSE(AskTcp("tapa", "10.244.2.2", 9).ok());
  EXPECT_THAT(Seen(tap), Contains("out RST 10.244.2.2:9"));
  EXPECT_TRUE(AskUdp("tapa", "10.244.2.2", 8080).ok());
  EXPECT_THAT(Seen(tap), IsEmpty());
}

// Connection tracking has no entry of such a connection: that is why the tap is there.
TEST_F(ConnectionTapTest, WhatIsDroppedIsSeenAndConnectionTrackingHasNoTraceOfIt) {
  RunTool({"nft",
           "add table ip t; add chain ip t f { type filter hook forward priority 0 ; policy "
           "accept ; }; add rule ip t f ct state new tcp dport 8080 drop"});
  ConnectionTap tap;
  EXPECT_EQ(AskTcp("tapa", "10.244.2.2", 8080).error, ETIMEDOUT);
  const auto seen = Seen(tap);
  EXPECT_THAT(seen, Contains("in SYN 10.244.2.2:8080"));
  EXPECT_THAT(seen, Not(Contains("out SYN-ACK 10.244.2.2:8080")));
  EXPECT_THAT(RunTool({"conntrack", "-L"}), Not(HasSubstr("10.244.2.2")));
}

// What it has no room for it says, and then it goes on.
TEST_F(ConnectionTapTest, ALossIsSaid) {
  ConnectionTap tap;
  const UniqueFd raw = testing::SocketIn(TestNetwork::At("tapa"), AF_INET, SOCK_RAW, IPPROTO_TCP);
  sockaddr_storage to = net::ToSocketAddress(net::IpAddress::Parse("10.244.2.2").value(), 0);
  const uint8_t syn[20] = {0x40, 0, 0x1f, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02};
  for (size_t i = 0; i < ConnectionTap::kFrames + 100; ++i) {
    ASSERT_GT(sendto(raw.get(), syn, sizeof syn, 0, reinterpret_cast<const sockaddr*>(&to),
                     sizeof(sockaddr_in)),
              0);
  }
  size_t seen = 0;
  const auto count = [&seen](const Segment&, bool, std::chrono::nanoseconds) { ++seen; };
  EXPECT_GT(tap.Read(count), 0U);
  EXPECT_EQ(seen, ConnectionTap::kFrames);
  EXPECT_EQ(tap.Read(count), 0U);
  EXPECT_TRUE(AskTcp("tapa", "10.244.2.2", 8080).ok());
  EXPECT_THAT(Seen(tap), Contains("in SYN 10.244.2.2:8080"));
}

}  // namespace
}  // namespace pointsman::agent
