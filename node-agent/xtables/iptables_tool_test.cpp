#include "node-agent/xtables/iptables_tool.h"

#include <cstdlib>
#include <sys/file.h>

#include <gmock/gmock.h>
#include <unistd.h>

#include "kube/testing/eventually.h"
#include "node-agent/netlink/nft_probe.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent::xtables {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Both variants × both families, as far as this kernel has them.
class IptablesToolTest : public ::testing::TestWithParam<std::tuple<std::string, net::Family>> {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    testing::WishVariant(std::get<0>(GetParam()));
    try {
      tool_.emplace(std::get<1>(GetParam()));
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  void TearDown() override { testing::WishVariant(""); }

  std::optional<IptablesTool> tool_;
};

TEST_P(IptablesToolTest, WhatIsRestoredIsSaved) {
  EXPECT_EQ(tool_->variant(), std::get<0>(GetParam()));
  EXPECT_TRUE(tool_->has_random_fully());
  tool_->Restore("*nat\n:MINE - [0:0]\n-A MINE -p tcp -m tcp --dport 80 -j RETURN\nCOMMIT\n");
  std::string saved = tool_->Save("nat");
  EXPECT_THAT(saved, HasSubstr("\n:MINE - [0:0]\n"));
  EXPECT_THAT(saved, HasSubstr("\n-A MINE -p tcp -m tcp --dport 80 -j RETURN\n"));
  EXPECT_THAT(saved, Not(HasSubstr("#")));
}

TEST_P(IptablesToolTest, CountsTheRestoresThatFail) {
  tool_->Restore("*nat\n:MINE - [0:0]\nCOMMIT\n");
  EXPECT_EQ(tool_->restore_failures(), 0U);
  for (uint64_t failures = 1; failures <= 2; ++failures) {
    EXPECT_THROW(tool_->Restore("*nat\n-A NONE -j RETURN\nCOMMIT\n"), std::runtime_error);
    EXPECT_EQ(tool_->restore_failures(), failures);
  }
}

// Somebody keeps the lock: others' changes must not wait long for that.
TEST_P(IptablesToolTest, ALockThatIsHeldIsAnErrorAndTheNextTryASuccess) {
  if (tool_->variant() != "legacy") GTEST_SKIP() << "nf_tables needs no lock";
  char path[] = "/tmp/pointsman-xtables.XXXXXX";
  const int lock = ::mkstemp(path);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  ::setenv("XTABLES_LOCKFILE", path, 1);
  const std::string rules = "*nat\n:MINE - [0:0]\nCOMMIT\n";
  EXPECT_TRUE(AtOnce([&] {
    try {
      tool_->Restore(rules);
      ADD_FAILURE() << "the lock was not heeded";
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), HasSubstr("xtables lock"));
    }
  }));
  EXPECT_EQ(tool_->restore_failures(), 1U);
  ::close(lock);
  EXPECT_NO_THROW(tool_->Restore(rules));
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  ::unsetenv("XTABLES_LOCKFILE");
  ::unlink(path);
}

TEST_P(IptablesToolTest, ErrorNamesTheLine) {
  try {
    tool_->Restore("*nat\n:MINE - [0:0]\n-A MINE -p tcp --no-such-option 1 -j RETURN\nCOMMIT\n");
    FAIL() << "accepted";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("no-such-option"));
    EXPECT_THAT(error.what(), HasSubstr("[-A MINE -p tcp --no-such-option 1 -j RETURN]"));
  }
  EXPECT_THAT(tool_->Save("nat"), Not(HasSubstr("MINE")));
}

TEST_P(IptablesToolTest, BaseRulesAreMadeOnceRepairedAndRemoved) {
  tool_->Restore("*nat\n:OTHER - [0:0]\n-A POSTROUTING -j OTHER\n-A OTHER -j RETURN\nCOMMIT\n");
  const std::string before = tool_->Save("nat");
  BaseRules base(*tool_, 14);
  SyncResult result = base.Ensure();
  EXPECT_TRUE(result.ok());
  EXPECT_GT(result.kernel_writes, 0U);
  EXPECT_EQ(result.repaired, 0U);
  const std::string made = tool_->Save("nat");
  EXPECT_THAT(made, HasSubstr("-A POINTSMAN-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"));

  // Restart: nothing to do. This also proves that the text written is the text read back.
  EXPECT_EQ(BaseRules(*tool_, 14).Ensure().kernel_writes, 0U);

  // Damage: a rule gone, a foreign rule in our chain, the jump twice and not first.
  tool_->Restore(
      "*nat\n-F POINTSMAN-MARK-MASQ\n-A POINTSMAN-POSTROUTING -j RETURN\n"
      "-I POSTROUTING -m comment --comment \"pointsman: masquerade\" -j POINTSMAN-POSTROUTING\n"
      "COMMIT\n");
  result = base.Ensure();
  EXPECT_EQ(result.repaired, 3U);
  EXPECT_EQ(tool_->Save("nat"), made);

  // Another bit.
  BaseRules(*tool_, 3).Ensure();
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("--set-xmark 0x8/0x8"));

  base.Remove();
  EXPECT_EQ(tool_->Save("nat"), before);
  EXPECT_EQ(base.Remove().kernel_writes, 0U);
}

TEST_P(IptablesToolTest, ATableThatOnlyNftKnowsIsNotTakenForAnEmptyOne) {
  if (tool_->variant() != "nft") GTEST_SKIP() << "only iptables-nft's tables can be so";
  tool_->Restore("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n");
  const bool v4 = tool_->family() == net::Family::kIPv4;
  // iptables has nothing that does this (k3s#11415).
  testing::RunTool({"nft", "add", "rule", v4 ? "ip" : "ip6", "filter", "INPUT", "meta", "mark",
                    "set", "numgen", "inc", "mod", "2"});
  const auto names_it = [&](const IncompatibleTable& error) {
    EXPECT_THAT(error.what(), HasSubstr(v4 ? "table ip filter" : "table ip6 filter"));
    EXPECT_THAT(error.what(), HasSubstr("nft list table"));
    EXPECT_THAT(error.what(), HasSubstr("mode nftables"));
  };
  try {
    tool_->Save("filter");
    FAIL() << "taken for empty";
  } catch (const IncompatibleTable& error) {
    names_it(error);
  }
  EXPECT_NO_THROW(tool_->Save("nat"));
  // Nor does an agent that starts now choose it, or the other variant: its own rules may be there.
  for (const char* wish : {"nft", ""}) {
    testing::WishVariant(wish);
    try {
      IptablesTool again(tool_->family());
      FAIL() << "chose " << again.variant();
    } catch (const IncompatibleTable& error) {
      names_it(error);
    }
  }
  // The administrator's word, and the kubelet's.
  testing::WishVariant("legacy");
  IptablesTool legacy(tool_->family());
  legacy.Restore("*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n");
  testing::WishVariant("");
  EXPECT_EQ(IptablesTool(tool_->family()).variant(), "legacy");
}

INSTANTIATE_TEST_SUITE_P(Variants, IptablesToolTest,
                         ::testing::Combine(::testing::Values("legacy", "nft"),
                                            ::testing::Values(net::Family::kIPv4,
                                                              net::Family::kIPv6)),
                         [](const auto& variant) {
                           return std::get<0>(variant.param) +
                                  std::string(net::ToString(std::get<1>(variant.param)));
                         });

class VariantChoice : public FreshNetnsTest {};

TEST_F(VariantChoice, FollowsTheHintAndTheRules) {
  if (!netlink::KernelHasNftNat(net::Family::kIPv4)) {
    // One variant only: it decides by itself.
    EXPECT_EQ(IptablesTool(net::Family::kIPv4).variant(), "legacy");
    return;
  }
  EXPECT_EQ(IptablesTool(net::Family::kIPv4).variant(), "legacy");
  testing::WishVariant("nft");
  IptablesTool nft(net::Family::kIPv4);
  testing::WishVariant("legacy");
  IptablesTool legacy(net::Family::kIPv4);
  testing::WishVariant("");
  nft.Restore("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n");
  EXPECT_EQ(IptablesTool(net::Family::kIPv4).variant(), "nft");
  legacy.Restore("*filter\n-A INPUT -j ACCEPT\n-A INPUT -j DROP\nCOMMIT\n");
  EXPECT_EQ(IptablesTool(net::Family::kIPv4).variant(), "legacy");
  nft.Restore("*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n");
  EXPECT_EQ(IptablesTool(net::Family::kIPv4).variant(), "nft");
}

TEST_F(VariantChoice, UnknownOverrideIsRefused) {
  testing::WishVariant("ipchains");
  EXPECT_THROW(IptablesTool{net::Family::kIPv4}, std::invalid_argument);
  testing::WishVariant("");
}

TEST(BaseRulesArguments, BitIsChecked) {
  if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
  IptablesTool tool(net::Family::kIPv4);
  EXPECT_THROW(BaseRules(tool, 32), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::agent::xtables
