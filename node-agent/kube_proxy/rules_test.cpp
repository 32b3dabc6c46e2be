// With the kernel's rules, in both variants: kube-proxy's go, and everybody else's stay as they
// were.
#include "node-agent/kube_proxy/rules.h"

#include <optional>
#include <string>
#include <tuple>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_rules.h"
#include "node-agent/testing/neighbours/policy_engines.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent::kube_proxy {
namespace {

using testing::CalicoInserts;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using xtables::IptablesTool;

class KubeProxyRulesTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    try {
      tool_.emplace(net::Family::kIPv4, GetParam());
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what();
    }
    // What others have; host ports of CNI's portmap jump to KUBE-MARK-MASQ.
    testing::Calico(net::Family::kIPv4,
                    {{.pod = "10.244.0.3", .link = "pod1", .ingress_from = {{"10.244.0.2"}}}},
                    "pod", CalicoInserts::kFirst)
        .Sync(*tool_);
    Restore(
        "nat",
        ":KUBE-MARK-MASQ - [0:0]\n:CNI-HOSTPORT-SETMARK - [0:0]\n"
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
        "-A CNI-HOSTPORT-SETMARK -m comment --comment \"x -j KUBE-SERVICES\" -j KUBE-MARK-MASQ\n");
    // The kubelet's.
    Restore("filter",
            ":KUBE-FIREWALL - [0:0]\n"
            "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate "
            "RELATED,ESTABLISHED,DNAT -j DROP\n"
            "-A INPUT -j KUBE-FIREWALL\n-A OUTPUT -j KUBE-FIREWALL\n");
    Restore("mangle", ":KUBE-KUBELET-CANARY - [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\n");
  }
  void Restore(const std::string& table, const std::string& lines) {
    tool_->Restore(fmt::format("*{}\n{}COMMIT\n", table, lines));
  }
  void MakeKubeProxy() {
    testing::KubeProxy("10.96.0.10", 80, "10.244.0.3:8080").Sync(*tool_);
    for (const char* table : {"mangle", "nat", "filter"})
      Restore(table, ":KUBE-PROXY-CANARY - [0:0]\n");
  }
  std::string Rules() { return testing::RulesOf(*tool_) + tool_->Save("mangle"); }

  std::optional<IptablesTool> tool_;
};

TEST_P(KubeProxyRulesTest, AllOfItsAndNothingElse) {
  Restore("filter", "-D INPUT -j KUBE-FIREWALL\n-D OUTPUT -j KUBE-FIREWALL\n");
  MakeKubeProxy();  // which makes these jumps of the kubelet's too
  const std::string with = Rules();
  EXPECT_THAT(FindRules(""), ElementsAre(RulesPlace{net::Family::kIPv4, GetParam()}));
  const RemovedRules removed = RemoveRules(*tool_);
  EXPECT_EQ(removed.jumps, 12U) << with;
  EXPECT_EQ(removed.chains, 13U) << with;
  EXPECT_THAT(removed.kept, IsEmpty());
  EXPECT_THAT(FindRules(""), IsEmpty());

  const std::string after = Rules();
  for (const char* theirs : {"KUBE-SERVICES\n", "KUBE-SVC-", "KUBE-SEP-", "KUBE-POSTROUTING",
                             "KUBE-FORWARD", "KUBE-PROXY-"})
    EXPECT_THAT(after, Not(HasSubstr(theirs)));
  for (const char* others : {"-A cali-FORWARD", "-A KUBE-MARK-MASQ -j MARK", "-A KUBE-FIREWALL",
                             "-A INPUT -j KUBE-FIREWALL", ":KUBE-KUBELET-CANARY",
                             ":KUBE-IPTABLES-HINT", "x -j KUBE-SERVICES"})
    EXPECT_THAT(after, HasSubstr(others));

  const RemovedRules again = RemoveRules(*tool_);
  EXPECT_EQ(again.chains + again.jumps, 0U);
  EXPECT_EQ(Rules(), after);
}

// What is not ours to remove is byte for byte as before.
TEST_P(KubeProxyRulesTest, OthersRulesAreAsTheyWere) {
  const std::string before = Rules();
  Restore(
      "nat",
      ":KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n"
      "-I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
      "-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
      "-I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n");
  EXPECT_NE(Rules(), before);
  RemoveRules(*tool_);
  EXPECT_EQ(Rules(), before);
}

TEST_P(KubeProxyRulesTest, AChainThatSomebodyElsesLeadsToStaysEmpty) {
  MakeKubeProxy();
  Restore("filter", ":MY-FORWARD - [0:0]\n-A MY-FORWARD -j KUBE-FORWARD\n");
  const RemovedRules removed = RemoveRules(*tool_);
  EXPECT_THAT(removed.kept,
              ElementsAre("chain KUBE-FORWARD in table filter stays, empty, since chain "
                          "MY-FORWARD leads to it"));
  const std::string after = Rules();
  EXPECT_THAT(after, HasSubstr("-A MY-FORWARD -j KUBE-FORWARD"));
  EXPECT_THAT(after, Not(HasSubstr("-A KUBE-FORWARD")));
  EXPECT_THAT(after,
              Not(HasSubstr("-A FORWARD -m comment --comment \"kubernetes forwarding rules\"")));
}

// Host ports of such a node are masqueraded by the kubelet's KUBE-POSTROUTING.
TEST_P(KubeProxyRulesTest, WithAnOldKubeletWhatItMadeTooStays) {
  MakeKubeProxy();
  Restore("nat", ":KUBE-MARK-DROP - [0:0]\n-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000\n");
  RemoveRules(*tool_);
  const std::string after = Rules();
  EXPECT_THAT(after, HasSubstr("-A KUBE-POSTROUTING -j MASQUERADE"));
  EXPECT_THAT(after, HasSubstr("-j KUBE-POSTROUTING"));
  EXPECT_THAT(after, HasSubstr("-A KUBE-MARK-DROP"));
  EXPECT_THAT(after, Not(HasSubstr("KUBE-SERVICES\n")));
}

TEST_P(KubeProxyRulesTest, WhatPointsmanMadeForOthersStays) {
  xtables::BaseRules(*tool_, 14).Ensure();
  const std::string before = Rules();
  EXPECT_THAT(before, HasSubstr(":KUBE-PROXY-CANARY"));
  RemoveRules(*tool_);
  EXPECT_EQ(Rules(), before);
}

INSTANTIATE_TEST_SUITE_P(Variants, KubeProxyRulesTest, ::testing::Values("legacy", "nft"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace pointsman::agent::kube_proxy
