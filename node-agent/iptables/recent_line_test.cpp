#include "node-agent/iptables/recent_line.h"

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

TEST(RecentLineTest, ReadsWhatTheKernelWrites) {
  const auto v4 =
      ParseRecentLine("src=10.244.0.2 ttl: 63 last_seen: 4296067512 oldest_pkt: 1 4296067512");
  ASSERT_TRUE(v4);
  EXPECT_EQ(*v4, (RecentClient{net::IpAddress::V4(0x0af40002), 4296067512}));
  // net/netfilter/xt_recent.c writes %pI6: all groups with all digits.
  const auto v6 = ParseRecentLine(
      "src=fd00:0010:0244:0000:0000:0000:0000:0014 ttl: 64 last_seen: 7 oldest_pkt: 2 6, 7");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->ip.ToString(), "fd00:10:244::14");
  EXPECT_EQ(v6->last_seen, 7U);
}

TEST(RecentLineTest, RefusesWhatIsNone) {
  for (const char* line :
       {"", "src=", "src= last_seen: 1", "src=10.0.0.1",
        "src=10.0.0.1 ttl: 63 last_seen: ", "src=10.0.0.1 last_seen: -1",
        "src=10.0.0.256 ttl: 1 last_seen: 1", " src=10.0.0.1 ttl: 1 last_seen: 1",
        "src=10.0.0.1 ttl: 1 last_seen: 99999999999999999999999"}) {
    EXPECT_FALSE(ParseRecentLine(line)) << line;
  }
}

}  // namespace
}  // namespace pointsman::agent
