#include "node-agent/agent/kernel_environment.h"

#include <cstdlib>

#include <gmock/gmock.h>

#include "node-agent/netlink/nft_probe.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent {
namespace {

using ::testing::HasSubstr;
using testing::RunTool;

class KernelEnvironmentTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    if (!netlink::KernelHasNftNat(net::Family::kIPv4))
      GTEST_SKIP() << "this kernel has no NAT in nf_tables";
  }
};

// k3s#11415: iptables takes such a table for an empty one.
TEST_F(KernelEnvironmentTest, ATableThatIptablesCannotReadLetsAnotherModeRun) {
  RunTool({"iptables-nft", "-A", "INPUT", "-s", "192.0.2.1", "-j", "ACCEPT"});
  RunTool({"nft", "add", "rule", "ip", "filter", "INPUT", "meta", "mark", "set", "numgen", "inc",
           "mod", "2"});
  KernelEnvironment environment("", "", "", "text");
  for (const kube::Mode mode : {kube::Mode::kIptables, kube::Mode::kUserspace}) {
    const PreflightResult result = environment.Preflight(mode, {}, true);
    EXPECT_FALSE(result.passed);
    EXPECT_EQ(result.reason, "TableIncompatible");
    EXPECT_THAT(result.message, HasSubstr("nft list table ip filter"));
  }
  const PreflightResult nftables = environment.Preflight(kube::Mode::kNftables, {}, true);
  EXPECT_TRUE(nftables.passed) << nftables.message;
  // The rule goes, and with it the reason.
  RunTool({"nft", "flush", "chain", "ip", "filter", "INPUT"});
  const PreflightResult iptables = environment.Preflight(kube::Mode::kIptables, {}, true);
  EXPECT_TRUE(iptables.passed) << iptables.message;
}

}  // namespace
}  // namespace pointsman::agent
