// What is taken out of iptables' tables is ours, with a kernel's own tables.
#include "node-agent/ipvs/chains.h"

#include <gtest/gtest.h>

#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_rules.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/results.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent::ipvs {
namespace {

using testing::RulesOf;

class RulesOfOthersTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    testing::WishVariant(GetParam());
    try {
      tool_.emplace(net::Family::kIPv4);
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what();
    }
    // Each speaks of a chain of ours, and none jumps to it.
    tool_->Restore(
        "*nat\n"
        "-A PREROUTING -s 192.0.2.1 -m comment --comment \"not -j POINTSMAN-IPVS-A\" -j RETURN\n"
        "-A PREROUTING -s 192.0.2.2 -m comment --comment \"-j POINTSMAN-IPVS-A\"\n"
        "-A PREROUTING -s 192.0.2.3 -m comment --comment \"-j POINTSMAN-IPT-SERVICES\"\n"
        "-A POSTROUTING -s 192.0.2.4 -m comment --comment \"a -j POINTSMAN-POSTROUTING b\"\n"
        "COMMIT\n"
        "*filter\n"
        "-A INPUT -s 192.0.2.5 -m comment --comment \"-j POINTSMAN-IPT-REJECT\"\n"
        "-A FORWARD -s 192.0.2.6 -m comment --comment POINTSMAN-IPVS-A -j ACCEPT\n"
        "COMMIT\n");
    before_ = RulesOf(*tool_);
  }
  void TearDown() override { testing::WishVariant(""); }

  std::optional<xtables::IptablesTool> tool_;
  std::string before_;
};

TEST_P(RulesOfOthersTest, StayWhenIpvsModeStopsAndGoes) {
  tool_->Restore(
      "*nat\n:POINTSMAN-IPVS-A - [0:0]\n-I PREROUTING -j POINTSMAN-IPVS-A\nCOMMIT\n"
      "*filter\n:POINTSMAN-IPVS-A - [0:0]\n-I INPUT -j POINTSMAN-IPVS-A\nCOMMIT\n");
  ASSERT_NE(RulesOf(*tool_), before_);
  StopTaking(*tool_);
  EXPECT_EQ(RemoveChains(*tool_), 2U);
  EXPECT_EQ(RulesOf(*tool_), before_);
}

TEST_P(RulesOfOthersTest, StayWhenIptablesModeDrainsAndGoes) {
  testing::ModelMaker maker;
  maker.Put(testing::MakeEntry("web", kube::Protocol::kTcp, "10.96.0.10", 80,
                               {testing::MakeBackend("10.244.1.7", 8080)}));
  xtables::BaseRules base(*tool_, 14);
  EXPECT_SYNCED(base.Ensure());
  IptablesDataplane dataplane({}, *tool_);
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  ASSERT_NE(RulesOf(*tool_), before_);
  dataplane.Drain(maker.model);
  EXPECT_SYNCED(dataplane.Remove());
  EXPECT_SYNCED(base.Remove());
  EXPECT_EQ(RulesOf(*tool_), before_);
}

INSTANTIATE_TEST_SUITE_P(Variants, RulesOfOthersTest, ::testing::Values("legacy", "nft"),
                         [](const auto& variant) { return std::string(variant.param); });

}  // namespace
}  // namespace pointsman::agent::ipvs
