#include "node-agent/neighbours/signs.h"

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SignCollectorTest, KeepsTheFirstByNameOfEachPattern) {
  SignCollector collector({{SignKind::kLink, "vlan.eth*"}, {SignKind::kLink, "azure0"}});
  // The kernel's order is that of creation.
  for (const char* name : {"vlan.eth.2", "lo", "vlan.eth.1", "vlan.eth.3", "azure0", "azure01"})
    collector.Offer(SignKind::kLink, name);
  collector.Offer(SignKind::kIpset, "azure0");
  EXPECT_THAT(collector.Take().found, ElementsAre(Sign{SignKind::kLink, "azure0", ""},
                                                  Sign{SignKind::kLink, "vlan.eth.1", ""}));
  EXPECT_THAT(collector.Take().found, IsEmpty());
}

TEST(SignCollectorTest, TakesAChainInItsTableOnly) {
  SignCollector collector({{SignKind::kChain, "ANTREA-PREROUTING", "nat"}});
  collector.Offer(SignKind::kChain, "ANTREA-PREROUTING", "mangle of iptables-nft, IPv4");
  collector.Offer(SignKind::kChain, "ANTREA-PREROUTING", "nat2 of iptables-nft, IPv4");
  EXPECT_THAT(collector.Take().found, IsEmpty());
  collector.Offer(SignKind::kChain, "ANTREA-PREROUTING", "nat of iptables-nft, IPv4");
  EXPECT_EQ(collector.Take().found.size(), 1U);
}

// A list that begins again must not leave what is not in it any more.
TEST(SignCollectorTest, ForgetsAKind) {
  SignCollector collector({{SignKind::kLink, "a"}, {SignKind::kRuleIif, "*"}});
  collector.Offer(SignKind::kLink, "a");
  collector.Offer(SignKind::kRuleIif, "eth0");
  collector.Forget(SignKind::kRuleIif);
  EXPECT_THAT(collector.Take().found, ElementsAre(Sign{SignKind::kLink, "a", ""}));
}

TEST(SignCollectorTest, KnowsWhatIsWanted) {
  const SignCollector collector({{SignKind::kChain, "cali-FORWARD", "filter"}});
  EXPECT_TRUE(collector.Wants(SignKind::kChain));
  EXPECT_FALSE(collector.Wants(SignKind::kLinkAddress));
  EXPECT_TRUE(collector.Wants(SignKind::kChain, "cali-FORWARD"));
  EXPECT_FALSE(collector.Wants(SignKind::kChain, "KUBE-SVC-ABC"));
}

}  // namespace
}  // namespace pointsman::agent
