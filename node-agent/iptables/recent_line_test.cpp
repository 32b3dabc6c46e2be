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

// As recent_mt counts, so that nobody is said to be free whom the kernel still sends to the same.
TEST(RecentLineTest, TheTimeOutsLastJiffyBinds) {
  EXPECT_EQ(JiffiesLeft(1000, 1000, 100), 100);
  EXPECT_EQ(JiffiesLeft(1000, 1099, 100), 2);
  EXPECT_EQ(JiffiesLeft(1000, 1100, 100), 1);
  EXPECT_EQ(JiffiesLeft(1000, 1101, 100), 0);
  EXPECT_EQ(JiffiesLeft(1000, 5000, 100), -3899);
  // Seen after `now` was read, and while jiffies wrapped.
  EXPECT_EQ(JiffiesLeft(1000, 999, 100), 100);
  EXPECT_EQ(JiffiesLeft(~Jiffies{0}, 99, 100), 1);
  EXPECT_EQ(JiffiesLeft(~Jiffies{0}, 100, 100), 0);
}

}  // namespace
}  // namespace pointsman::agent
