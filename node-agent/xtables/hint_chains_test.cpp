// Against the kernel, in both variants and families: what is made for others, whose it is, and what
// is left of it.
#include "node-agent/xtables/hint_chains.h"

#include <optional>
#include <string>
#include <tuple>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/xtables/base_rules.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::xtables {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class HintChainsTest : public ::testing::TestWithParam<std::tuple<std::string, net::Family>> {
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

  void Restore(const std::string& table, const std::string& lines) {
    tool_->Restore(fmt::format("*{}\n{}COMMIT\n", table, lines));
  }
  // The lines of the table that name the chain, one after the other.
  std::string Of(const std::string& table, std::string_view chain) {
    std::string lines;
    tool_->SaveLines(table, [&](std::string_view line) {
      if (line.find(chain) != std::string_view::npos) lines += fmt::format("{}\n", line);
    });
    return lines;
  }
  SyncResult Ensure(int bit = 14) { return BaseRules(*tool_, bit).Ensure(); }
  SyncResult Remove() { return BaseRules(*tool_, 14).Remove(); }

  std::optional<IptablesTool> tool_;
};

constexpr char kOurMark[] =
    ":KUBE-MARK-MASQ - [0:0]\n"
    "-A KUBE-MARK-MASQ -m comment --comment \"pointsman: made for others\" -j MARK --set-xmark "
    "0x4000/0x4000\n";
constexpr char kTheirMark[] =
    ":KUBE-MARK-MASQ - [0:0]\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n";

TEST_P(HintChainsTest, AreMadeOnceAndGoWithTheBaseRules) {
  const std::string nat = tool_->Save("nat");
  const std::string mangle = tool_->Save("mangle");
  EXPECT_TRUE(Ensure().ok());
  EXPECT_EQ(Of("nat", "KUBE-"), kOurMark);
  // As Cilium's init container and iptables-wrappers look for them.
  EXPECT_THAT(Of("mangle", "KUBE-PROXY-CANARY"), HasSubstr(":KUBE-PROXY-CANARY - [0:0]\n"));
  EXPECT_THAT(Of("mangle", "KUBE-IPTABLES-HINT"), HasSubstr(":KUBE-IPTABLES-HINT - [0:0]\n"));
  EXPECT_EQ(Ensure().kernel_writes, 0U);

  Restore("nat", "-F KUBE-MARK-MASQ\n");  // as `iptables -F` does
  EXPECT_EQ(Ensure().kernel_writes, 1U);
  EXPECT_EQ(Of("nat", "KUBE-"), kOurMark);

  EXPECT_TRUE(Ensure(3).ok());  // another mark
  EXPECT_THAT(Of("nat", "KUBE-"), HasSubstr("0x8/0x8"));
  EXPECT_THAT(Of("nat", "KUBE-"), Not(HasSubstr("0x4000")));

  EXPECT_TRUE(Remove().ok());
  EXPECT_EQ(tool_->Save("nat"), nat);
  EXPECT_EQ(tool_->Save("mangle"), mangle);
  EXPECT_EQ(Remove().kernel_writes, 0U);
}

TEST_P(HintChainsTest, ThoseOfKubeProxyAndKubeletAreTheirs) {
  Restore("nat", std::string(kTheirMark) + ":KUBE-PROXY-CANARY - [0:0]\n");
  Restore("mangle",
          ":KUBE-PROXY-CANARY - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n"
          ":KUBE-IPTABLES-HINT - [0:0]\n");
  const std::string mark = Of("nat", "KUBE-");
  const std::string mangle = tool_->Save("mangle");
  Ensure();
  EXPECT_EQ(Of("nat", "KUBE-"), mark);
  EXPECT_EQ(tool_->Save("mangle"), mangle);
  Remove();
  EXPECT_EQ(Of("nat", "KUBE-"), mark);
  EXPECT_EQ(tool_->Save("mangle"), mangle);
}

// Without the canaries that say who runs: a chain that is there is not ours.
TEST_P(HintChainsTest, EmptyCanariesOfSomebodyElseStayAsTheyAre) {
  Restore("mangle", ":KUBE-PROXY-CANARY - [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\n");
  const std::string mangle = tool_->Save("mangle");
  Ensure();
  EXPECT_EQ(tool_->Save("mangle"), mangle);
  Remove();
  EXPECT_EQ(tool_->Save("mangle"), mangle);
}

// kube-proxy starts beside us, or the kubelet after us: they write into the chains that are there.
TEST_P(HintChainsTest, AreHandedOverToThoseWhoComeLater) {
  Ensure();
  Restore("nat", std::string(kTheirMark) + ":KUBE-PROXY-CANARY - [0:0]\n");
  Restore("mangle", ":KUBE-KUBELET-CANARY - [0:0]\n");
  Ensure();
  EXPECT_EQ(Of("nat", "KUBE-MARK-MASQ"), kTheirMark);
  EXPECT_EQ(Of("mangle", "KUBE-PROXY-CANARY"), ":KUBE-PROXY-CANARY - [0:0]\n");
  EXPECT_EQ(Of("mangle", "KUBE-IPTABLES-HINT"), ":KUBE-IPTABLES-HINT - [0:0]\n");
  EXPECT_EQ(Ensure().kernel_writes, 0U);
  Remove();
  EXPECT_EQ(Of("nat", "KUBE-MARK-MASQ"), kTheirMark);
  EXPECT_EQ(Of("mangle", "KUBE-PROXY-CANARY"), ":KUBE-PROXY-CANARY - [0:0]\n");
  EXPECT_EQ(Of("mangle", "KUBE-IPTABLES-HINT"), ":KUBE-IPTABLES-HINT - [0:0]\n");
}

// A kubelet up to 1.26 appends its rule where the chain has another one.
TEST_P(HintChainsTest, NoRuleIsThereTwice) {
  Ensure();
  Restore("nat", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n");
  Ensure();
  EXPECT_EQ(Of("nat", "KUBE-"), kTheirMark);
}

// A chain to which others jump cannot be taken away, and need not be ours: CRI-O makes it, empty.
TEST_P(HintChainsTest, StayWhereOthersJumpToThem) {
  Restore("nat", ":KUBE-MARK-MASQ - [0:0]\n:KUBE-HP-A - [0:0]\n-A KUBE-HP-A -j KUBE-MARK-MASQ\n");
  const std::string before = tool_->Save("nat");
  Ensure();
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("--set-xmark 0x4000/0x4000"));
  EXPECT_TRUE(Remove().ok());
  EXPECT_EQ(tool_->Save("nat"), before);
}

// An agent of the other variant would else follow the one before it for good.
TEST_P(HintChainsTest, OurHintDoesNotChooseOurVariant) {
  Ensure();
  Remove();
  // Only the hint is left.
  Restore("mangle",
          ":KUBE-IPTABLES-HINT - [0:0]\n-A KUBE-IPTABLES-HINT -m comment --comment "
          "\"pointsman: made for others\"\n");
  testing::WishVariant(std::get<0>(GetParam()) == "nft" ? "legacy" : "nft");
  std::optional<IptablesTool> other;
  try {
    other.emplace(tool_->family());
  } catch (const std::runtime_error& error) {
    GTEST_SKIP() << error.what();
  }
  other->Restore("*filter\n-A INPUT -j ACCEPT\n-A INPUT -j ACCEPT\nCOMMIT\n");
  testing::WishVariant("");
  EXPECT_EQ(IptablesTool(tool_->family()).variant(), other->variant());
  Restore("mangle", ":KUBE-KUBELET-CANARY - [0:0]\n");  // the kubelet's word counts
  EXPECT_EQ(IptablesTool(tool_->family()).variant(), tool_->variant());
}

INSTANTIATE_TEST_SUITE_P(Variants, HintChainsTest,
                         ::testing::Combine(::testing::Values("legacy", "nft"),
                                            ::testing::Values(net::Family::kIPv4,
                                                              net::Family::kIPv6)),
                         [](const auto& variant) {
                           return std::get<0>(variant.param) +
                                  std::string(net::ToString(std::get<1>(variant.param)));
                         });

}  // namespace
}  // namespace pointsman::agent::xtables
