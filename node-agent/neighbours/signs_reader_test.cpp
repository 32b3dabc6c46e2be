#include "node-agent/neighbours/signs_reader.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "node-agent/neighbours/neighbour_table.h"
#include "node-agent/neighbours/survey.h"
#include "node-agent/netlink/rule.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/net_namespace.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IpTool;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::RunTool;
using testing::TryTool;

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Names of the modules that are loaded; their use counts change all the time.
std::vector<std::string> LoadedModules() {
  std::istringstream lines(ReadAll("/proc/modules"));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);)
    names.push_back(line.substr(0, line.find(' ')));
  return names;
}

class SignsReaderTest : public FreshNetnsTest {
 protected:
  static std::vector<Sign> Found(const std::vector<SignPattern>& patterns) {
    const Signs signs = ReadSigns(patterns);
    EXPECT_THAT(signs.unread, IsEmpty());
    return signs.found;
  }
  static std::vector<std::string> Neighbourhood() {
    std::vector<std::string> names;
    for (const Finding& finding : Survey(ReadSigns(PatternsOf(Neighbours())), Neighbours()))
      names.emplace_back(finding.neighbour->name);
    return names;
  }
};

// First: others load modules.
TEST_F(SignsReaderTest, ALookMakesNoTableAndLoadsNoModule) {
  const auto before = LoadedModules();
  EXPECT_THAT(Found(PatternsOf(Neighbours())), IsEmpty());
  EXPECT_EQ(LoadedModules(), before);
  EXPECT_EQ(ReadAll("/proc/thread-self/net/ip_tables_names"), "");
  EXPECT_EQ(ReadAll("/proc/thread-self/net/ip6_tables_names"), "");
}

TEST_F(SignsReaderTest, FindsLinksTheirKindsAndAddresses) {
  IpTool(
      "link add azure0 type bridge\n"
      "link add cni0 type bridge\n"
      "link add nodelocaldns type bridge\n"
      "addr add 169.254.20.10/32 dev nodelocaldns\n"
      "link set nodelocaldns up\n");
  constexpr const char* kFilter = "/proc/sys/net/bridge/bridge-nf-call-iptables";
  if (::access(kFilter, F_OK) == 0) {
    std::ofstream(kFilter) << "1";
    EXPECT_THAT(Neighbourhood(), ElementsAre("azure-cni-bridge"));
    std::ofstream(kFilter) << "0";
  }
  EXPECT_THAT(Neighbourhood(), ElementsAre("azure-cni-bridge", "bridge-nf-call"));
  IpTool("addr add 10.96.0.10/32 dev nodelocaldns\n");
  EXPECT_THAT(Neighbourhood(), Contains("nodelocaldns"));
  EXPECT_THAT(Found({{SignKind::kLinkAddress, "nodelocaldns"}}),
              ElementsAre(Sign{SignKind::kLinkAddress, "nodelocaldns", "10.96.0.10"}));
  EXPECT_THAT(Found({{SignKind::kLinkKind, "bridge"}}),
              ElementsAre(Sign{SignKind::kLinkKind, "bridge", ""}));
}

// An interface may have any name without white space, a slash or a colon (dev_valid_name).
TEST_F(SignsReaderTest, AHostileLinkDoesNoHarm) {
  const std::string name("\x1b[2J\xff\xfe\"*");
  IpTool("link add \x1b[2J\xff\xfe\"* type bridge\n");
  RunTool({"ip", "rule", "add", "iif", name, "lookup", "101"});
  const Signs signs = ReadSigns(PatternsOf(Neighbours()));
  ASSERT_THAT(signs.found, ElementsAre(::testing::Field(&Sign::name, name)));
  const auto findings = Survey(signs, Neighbours());
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_THAT(Describe(findings[0]), HasSubstr("iif \\x1b[2J\\xff\\xfe"));
}

TEST_F(SignsReaderTest, FindsRoutingRulesByTheirInterface) {
  IpTool(
      "rule add from all iif lo lookup 99\n"
      "rule add from 10.0.0.1 lookup 100 priority 500\n");
  EXPECT_THAT(Neighbourhood(), IsEmpty());
  RunTool({"ip", "-6", "rule", "add", "iif", "eth1", "lookup", "101", "priority", "600"});
  EXPECT_THAT(Found({{SignKind::kRuleIif, "*"}}),
              ElementsAre(Sign{SignKind::kRuleIif, "eth1", "priority 600, table 101, IPv6"}));
  IpTool("rule add iif caliA lookup 102 priority 700\n");
  EXPECT_THAT(Found({{SignKind::kRuleIif, "*"}}),
              ElementsAre(Sign{SignKind::kRuleIif, "caliA", "priority 700, table 102, IPv4"}));
}

TEST_F(SignsReaderTest, ReadsAllOfARule) {
  IpTool("rule add iif eth0 oif eth1 lookup 1234 priority 42\n");
  netlink::Socket socket(NETLINK_ROUTE);
  std::vector<netlink::RoutingRule> rules;
  netlink::ForEachRoutingRule(
      socket, [&] { rules.clear(); },
      [&](const netlink::RoutingRule& rule) { rules.push_back(rule); });
  const auto rule = std::find_if(rules.begin(), rules.end(),
                                 [](const auto& each) { return each.priority == 42; });
  ASSERT_NE(rule, rules.end());
  EXPECT_EQ(rule->family, net::Family::kIPv4);
  EXPECT_EQ(rule->table, 1234U);
  EXPECT_EQ(rule->input_interface, "eth0");
  EXPECT_EQ(rule->output_interface, "eth1");
  EXPECT_FALSE(rule->l3mdev);
  EXPECT_GT(rules.size(), 3U);  // local, main, default; and IPv6's
}

// Chains of policy engines and the policy of FORWARD, in both variants of iptables.
class SignsReaderXtablesTest : public SignsReaderTest,
                               public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    SignsReaderTest::SetUp();
    if (IsSkipped()) return;
    if (TryTool({Tool("iptables"), "-N", "PROBE"}) != 0)
      GTEST_SKIP() << "this kernel has no such tables";
  }
  static std::string Tool(const std::string& name) { return name + "-" + GetParam(); }
};

TEST_P(SignsReaderXtablesTest, FindsChainsInTheirTables) {
  for (const char* chain : {"AZURE-NPM", "cali-FORWARD", "WEAVE-NPC", "KUBE-SVC-X"})
    RunTool({Tool("iptables"), "-N", chain});
  RunTool({Tool("ip6tables"), "-N", "KUBE-ROUTER-FORWARD"});
  RunTool({Tool("iptables"), "-t", "mangle", "-N", "ANTREA-PREROUTING"});
  EXPECT_THAT(Neighbourhood(), ElementsAre("azure-npm", "calico", "kube-router", "weave-npc"));
  EXPECT_THAT(Found({{SignKind::kChain, "KUBE-ROUTER-FORWARD", "filter"}}),
              ElementsAre(Sign{SignKind::kChain, "KUBE-ROUTER-FORWARD",
                               fmt::format("filter of iptables-{}, IPv6", GetParam())}));
  EXPECT_THAT(Found({{SignKind::kChain, "ERROR"}}), IsEmpty());
}

// In table filter there are rules of ours that accept.
TEST_P(SignsReaderXtablesTest, FindsTheForwardPolicyOfOtherTablesThanFilter) {
  for (const char* tool : {"iptables", "ip6tables"}) {
    RunTool({Tool(tool), "-P", "FORWARD", "DROP"});
    EXPECT_THAT(Neighbourhood(), IsEmpty());
    RunTool({Tool(tool), "-t", "mangle", "-P", "FORWARD", "DROP"});
    EXPECT_THAT(Neighbourhood(), ElementsAre("forward-policy-drop"));
    RunTool({Tool(tool), "-t", "mangle", "-P", "FORWARD", "ACCEPT"});
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, SignsReaderXtablesTest, ::testing::Values("legacy", "nft"),
                         [](const auto& param) { return std::string(param.param); });

TEST_F(SignsReaderTest, FindsTablesAndPoliciesOfNfTables) {
  if (TryTool({"nft", "add", "table", "inet", "firewalld"}) != 0)
    GTEST_SKIP() << "this kernel has no nf_tables";
  EXPECT_THAT(Neighbourhood(), ElementsAre("firewalld"));
  RunTool({"nft", "add", "table", "ip", "calico"});
  RunTool({"nft", "add", "table", "ip6", "kube-router-filter-ipv6"});
  EXPECT_THAT(Neighbourhood(), ElementsAre("calico", "firewalld", "kube-router"));
  RunTool({"nft", "flush", "ruleset"});
  RunTool({"nft", "add", "table", "inet", "filter"});
  RunTool({"nft", "add", "chain", "inet", "filter", "in",
           "{ type filter hook input priority 0; policy drop; }"});
  EXPECT_THAT(Neighbourhood(), IsEmpty());
  RunTool({"nft", "add", "chain", "inet", "filter", "forwarded",
           "{ type filter hook forward priority 0; policy drop; }"});
  EXPECT_THAT(
      Found({{SignKind::kForwardPolicyDrop, "*"}}),
      ElementsAre(Sign{SignKind::kForwardPolicyDrop, "forwarded", "filter of nf_tables, inet"}));
}

// What is of no interest is passed over: as much as kube-proxy makes for many Services.
TEST_F(SignsReaderTest, ManyChainsAreNoTrouble) {
  std::string text = "*filter\n";
  constexpr int kMany = 20'000;
  for (int i = 0; i < kMany; ++i)
    text += fmt::format(":KUBE-SVC-{:016d} - [0:0]\n", i);
  text += ":AZURE-NPM - [0:0]\nCOMMIT\n";
  const std::string file = ::testing::TempDir() + fmt::format("many-chains-{}", ::getpid());
  std::ofstream(file) << text;
  for (const char* tool : {"iptables-legacy-restore", "iptables-nft-restore"}) {
    if (TryTool({tool, file}) != 0) continue;  // not in this kernel
    EXPECT_THAT(Neighbourhood(), ElementsAre("azure-npm")) << tool;
    EXPECT_EQ(ReadSigns(PatternsOf(Neighbours())).found.size(), 1U);
    RunTool({std::string(tool) == "iptables-legacy-restore" ? "iptables-legacy" : "iptables-nft",
             "-X"});
  }
  ::unlink(file.c_str());
}

TEST_F(SignsReaderTest, FindsIpsets) {
  if (TryTool({"ipset", "create", "istio-inpod-probes-v4", "hash:ip"}) != 0)
    GTEST_SKIP() << "this kernel has no ipset";
  RunTool({"ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"});
  EXPECT_THAT(Neighbourhood(), ElementsAre("istio-ambient", "stale-kube-proxy-sets"));
}

TEST_F(SignsReaderTest, FindsVirtualServersByMark) {
  if (TryTool({"modprobe", "ip_vs"}) != 0) GTEST_SKIP() << "this kernel has no IPVS";
  RunTool({"ipvsadm", "-A", "-t", "10.96.0.1:443", "-s", "rr"});
  EXPECT_THAT(Neighbourhood(), IsEmpty());
  RunTool({"ipvsadm", "-A", "-f", "16", "-s", "rr"});
  EXPECT_THAT(Found({{SignKind::kIpvsByMark, "*"}}),
              ElementsAre(Sign{SignKind::kIpvsByMark, "00000010", ""}));
}

}  // namespace
}  // namespace pointsman::agent
