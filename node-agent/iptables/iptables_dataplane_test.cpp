// What is iptables mode's alone; what it has in common with the others is in node-agent/contract/.
#include "node-agent/iptables/iptables_dataplane.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/results.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {
namespace {

using ::testing::HasSubstr;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::ModelMaker;

ServicePortEntry Web(std::vector<Backend> backends) {
  ServicePortEntry entry = MakeEntry("web", Protocol::kTcp, "10.96.0.10", 80, std::move(backends));
  entry.node_port = 30080;
  return entry;
}

kube::ProxySettings Settings() {
  kube::ProxySettings settings;
  settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  return settings;
}

// Rules alone, in an empty namespace; both variants.
class Rules : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    testing::WishVariant(GetParam());
    try {
      tool_ = std::make_unique<xtables::IptablesTool>(net::Family::kIPv4);
      tool6_ = std::make_unique<xtables::IptablesTool>(net::Family::kIPv6);
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what();
    }
    xtables::BaseRules(*tool_, 14).Ensure();
    xtables::BaseRules(*tool6_, 14).Ensure();
  }
  void TearDown() override { testing::WishVariant(""); }

  IptablesDataplane Make() {
    return IptablesDataplane(Settings(), std::vector{tool_.get(), tool6_.get()});
  }
  std::unique_ptr<xtables::IptablesTool> tool_;
  std::unique_ptr<xtables::IptablesTool> tool6_;
};

TEST_P(Rules, AFullSyncCountsTheRulesThatAreThere) {
  ModelMaker maker;
  maker.Put(Web({MakeBackend("10.244.0.2", 8080), MakeBackend("10.244.1.2", 8080)}));
  maker.Put(MakeEntry("none", Protocol::kTcp, "10.96.0.11", 80, {}));
  IptablesDataplane dataplane(Settings(), *tool_);
  // The second finds all of it there.
  for (int i = 0; i < 2; ++i) {
    SyncResult result = dataplane.FullSync(maker.model);
    for (const char* table : {"nat", "filter"}) {
      uint64_t count = 0;
      tool_->SaveLines(table, [&](std::string_view line) {
        if (line.starts_with("-A") && line.find("POINTSMAN-IPT-") != std::string_view::npos)
          ++count;
      });
      EXPECT_EQ(result.rules[table], count);
      EXPECT_GT(count, 5U);
    }
  }
}

TEST_P(Rules, RouteLocalnetIsTakenBackWithoutTheRuleThatSaysWhoseItIs) {
  ModelMaker maker;
  maker.model.node.localhost_node_ports = true;
  IptablesDataplane dataplane = Make();
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  EXPECT_EQ(ReadSysctl("net.ipv4.conf.all.route_localnet"), "1");
  tool_->Restore("*filter\n-F POINTSMAN-IPT-GUARD\nCOMMIT\n");
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  EXPECT_SYNCED(dataplane.Remove());
  EXPECT_EQ(ReadSysctl("net.ipv4.conf.all.route_localnet"), "0");
}

TEST_P(Rules, ItsJumpsComeBeforeThoseOfOthers) {
  ModelMaker maker;
  IptablesDataplane dataplane = Make();
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  // As kube-proxy's: ours comes first again, theirs stays.
  tool_->Restore("*nat\n:KUBE-SERVICES - [0:0]\n-I PREROUTING -j KUBE-SERVICES\nCOMMIT\n");
  EXPECT_FALSE(dataplane.Verify(maker.model).ok());
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  EXPECT_VERIFIED(dataplane.Verify(maker.model));
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("-A PREROUTING -j KUBE-SERVICES\n"));
  // Calico's may stay before ours: it would put it back.
  tool_->Restore("*nat\n:cali-PREROUTING - [0:0]\n-I PREROUTING -j cali-PREROUTING\nCOMMIT\n");
  EXPECT_EQ(dataplane.FullSync(maker.model).kernel_writes, 0U);
}

TEST_P(Rules, AFailedWriteIsReportedAndMadeGood) {
  ModelMaker maker;
  IptablesDataplane dataplane = Make();
  ASSERT_TRUE(dataplane.FullSync(maker.model).ok());
  // Without the chain that its rules jump to, the kernel's tool refuses the Service.
  xtables::BaseRules(*tool_, 14).Remove();
  ServicePortEntry entry = Web({MakeBackend("10.244.0.2", 8080)});
  SyncResult result = dataplane.Sync(maker.model, maker.Put(entry));
  ASSERT_EQ(result.problems.size(), 1U);
  EXPECT_THAT(result.problems[0].message, HasSubstr("POINTSMAN-MARK-MASQ"));
  // Changes do not try it again, which would be all of the family each time; a full sync does, and
  // makes the base rules too.
  ServicePortEntry other =
      MakeEntry("other", Protocol::kTcp, "10.96.0.11", 80, {MakeBackend("10.244.0.2", 8080)});
  const SyncResult later = dataplane.Sync(maker.model, maker.Put(other));
  ASSERT_EQ(later.problems.size(), 1U);
  EXPECT_EQ(later.problems[0].message, result.problems[0].message);
  EXPECT_EQ(later.kernel_writes, 0U);
  EXPECT_TRUE(dataplane.FullSync(maker.model).ok());
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("-d 10.96.0.11/32 -p tcp -m tcp --dport 80 -j"));
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j"));
  EXPECT_TRUE(dataplane.Verify(maker.model).ok());
}

INSTANTIATE_TEST_SUITE_P(Variants, Rules, ::testing::Values("legacy", "nft"),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace pointsman::agent
