#include "node-agent/xtables/jump_order.h"

#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/xtables/saved_rule.h"

namespace pointsman::agent::xtables {
namespace {

using ::testing::ElementsAre;

constexpr std::string_view kPrefix = "POINTSMAN-IPT-";

// A table as iptables-save prints it, to which changes are made as iptables-restore does.
struct Table {
  std::string name;
  std::map<std::string, std::string> chains;  // name → policy, "-" for those of others
  std::map<std::string, std::vector<std::string>> rules;
  LastKeepers keepers{};

  BuiltinChains Read() const {
    BuiltinChains read(kPrefix);
    const auto add = [&](const std::string& line) { read.Add(ParseSavedLine(line)); };
    add("*" + name);
    for (const auto& [chain, policy] : chains)
      add(fmt::format(":{} {} [0:0]", chain, policy));
    for (const auto& [chain, texts] : rules) {
      for (const std::string& text : texts)
        add(fmt::format("-A {} {}", chain, text));
    }
    return read;
  }
  // Returns the number of writes.
  size_t Place(const std::string& chain, const std::vector<Jump>& wanted) {
    const BuiltinChains read = Read();
    read.Teach(chain, wanted, keepers);
    const JumpChanges changes = read.Place(chain, wanted, keepers);
    std::vector<std::string>& texts = rules[chain];
    for (const std::string& rule : changes.removed) {
      const auto found = std::find(texts.begin(), texts.end(), rule);
      if (found == texts.end()) throw std::logic_error("no such rule: " + rule);
      texts.erase(found);
    }
    for (const auto& [position, rule] : changes.inserted) {
      if (position == 0 || position > texts.size() + 1) throw std::logic_error("no such place");
      texts.insert(texts.begin() + static_cast<ptrdiff_t>(position) - 1, rule);
    }
    return changes.writes();
  }
};

const Jump kServices{"-j POINTSMAN-IPT-SERVICES", JumpPlace::kBeforeProxies};
const Jump kReject{"-j POINTSMAN-IPT-REJECT", JumpPlace::kStays};
const Jump kForward{"-j POINTSMAN-IPT-FORWARD", JumpPlace::kBehindPolicies};
const std::vector<Jump> kFilterJumps{kForward, kReject};

TEST(TakeApartTest, MatchTargetAndNoComment) {
  const SavedRule rule = TakeApart(
      R"(-i cali+ -m comment --comment "a \" -j X" -m mark --mark 0x1/0x1 -j REJECT --reject-with x)");
  EXPECT_EQ(rule.match, "-i cali+ -m mark --mark 0x1/0x1");
  EXPECT_EQ(rule.target, "REJECT");
  EXPECT_FALSE(rule.every());
  EXPECT_TRUE(TakeApart("-m comment --comment kubernetes -g X").every());
  EXPECT_TRUE(TakeApart("-m comment --comment kubernetes -g X").goes);
  EXPECT_EQ(TakeApart("-p tcp").target, "");
  EXPECT_EQ(TakeApart("-m comment --comment \"no end").target, "");
}

struct Case {
  std::string what;
  std::map<std::string, std::string> chains;
  std::map<std::string, std::vector<std::string>> rules;
  std::vector<std::string> expected;  // FORWARD or PREROUTING
};

class JumpOrderTest : public ::testing::TestWithParam<Case> {
 protected:
  void ExpectPlaced(const std::string& table, const std::string& builtin,
                    const std::vector<Jump>& wanted) {
    Table kernel{table, GetParam().chains, GetParam().rules};
    kernel.chains.try_emplace(builtin, "ACCEPT");
    EXPECT_GT(kernel.Place(builtin, wanted), 0U);
    EXPECT_EQ(kernel.rules[builtin], GetParam().expected);
    EXPECT_EQ(kernel.Place(builtin, wanted), 0U) << "a second look finds nothing to do";
  }
};

class FilterOrderTest : public JumpOrderTest {};
TEST_P(FilterOrderTest, RefusesFirstAndAcceptsBehindPolicies) {
  ExpectPlaced("filter", "FORWARD", kFilterJumps);
}

const std::string kR = kReject.rule;
const std::string kF = kForward.rule;
const std::string kS = kServices.rule;

INSTANTIATE_TEST_SUITE_P(
    , FilterOrderTest,
    ::testing::Values(
        Case{"Nothing", {}, {}, {kR, kF}},
        Case{"DirectRulesOfAnAdministrator",
             {},
             {{"FORWARD", {"-s 192.0.2.1/32 -j DROP", "-i eth0 -j LOG"}}},
             {kR, kF, "-s 192.0.2.1/32 -j DROP", "-i eth0 -j LOG"}},
        Case{"RejectAtTheEnd",
             {},
             {{"FORWARD", {"-i eth1 -j ACCEPT", "-j REJECT --reject-with icmp-host-prohibited"}}},
             {kR, kF, "-i eth1 -j ACCEPT", "-j REJECT --reject-with icmp-host-prohibited"}},
        Case{"BehindAnEngine",
             {{"cali-FORWARD", "-"}},
             {{"FORWARD", {"-j cali-FORWARD", "-m mark --mark 0x1 -j ACCEPT", "-j MARK --x 1"}}},
             {kR, "-j cali-FORWARD", kF, "-m mark --mark 0x1 -j ACCEPT", "-j MARK --x 1"}},
        Case{"BehindWhatWasAppended",
             {{"cali-FORWARD", "-"}},
             {{"FORWARD", {kR, kF, "-j KUBE-FORWARD", "-i cali+ -j cali-FORWARD"}}},
             {kR, "-j KUBE-FORWARD", "-i cali+ -j cali-FORWARD", kF}},
        Case{"BehindTheDropThatEndsAPolicy",
             {{"WEAVE-NPC", "-"}},
             {{"FORWARD",
               {"-o weave -j WEAVE-NPC", "-o weave -m comment --comment x -j DROP",
                "-i eth0 -j DROP"}}},
             {kR, "-o weave -j WEAVE-NPC", "-o weave -m comment --comment x -j DROP", kF,
              "-i eth0 -j DROP"}},
        Case{"InFrontOfAChainThatRefusesTheRest",
             {{"IN_ZONES", "-"}, {"FWDI_public", "-"}, {"deny", "-"}, {"FWDI_trusted", "-"}},
             {{"FORWARD", {"-m conntrack --ctstate ESTABLISHED -j ACCEPT", "-j IN_ZONES"}},
              {"IN_ZONES", {"-i eth1 -g FWDI_trusted", "-i eth0 -g FWDI_public", "-g FWDI_public"}},
              {"FWDI_trusted", {"-j ACCEPT"}},
              {"FWDI_public", {"-j LOG", "-p icmp -j ACCEPT", "-j deny"}},
              {"deny", {"-m limit -j LOG", "-j REJECT --reject-with x"}}},
             {kR, kF, "-m conntrack --ctstate ESTABLISHED -j ACCEPT", "-j IN_ZONES"}},
        Case{"BetweenAnEngineAndARefusal",
             {{"ufw-before-forward", "-"}, {"ufw-not-local", "-"}, {"ufw-reject-forward", "-"}},
             {{"FORWARD",
               {"-j ufw-before-forward", "-j ufw-not-local", "-j ufw-reject-forward",
                "-j cali-LATER"}},
              {"ufw-not-local", {"-m addrtype --dst-type LOCAL -j RETURN", "-j DROP"}},
              {"ufw-reject-forward", {"-j REJECT --reject-with x"}}},
             {kR, "-j ufw-before-forward", "-j ufw-not-local", kF, "-j ufw-reject-forward",
              "-j cali-LATER"}},
        Case{"AChainThatAcceptsTheRestIsAPolicy",
             {{"ENGINE", "-"}},
             {{"FORWARD", {"-j ENGINE"}}, {"ENGINE", {"-s 192.0.2.1/32 -j DROP", "-j ACCEPT"}}},
             {kR, "-j ENGINE", kF}},
        Case{"AGotoThatReturnsReturns",
             {{"A", "-"}, {"B", "-"}},
             {{"FORWARD", {"-j A"}}, {"A", {"-i x -g B", "-j DROP"}}, {"B", {"-j LOG"}}},
             {kR, "-j A", kF}},
        Case{"AGotoInTheBuiltinChainEndsInItsPolicy",
             {{"A", "-"}, {"FORWARD", "DROP"}},
             {{"FORWARD", {"-j A", "-g A"}}},
             {kR, "-j A", kF, "-g A"}},
        Case{"ALoop",
             {{"A", "-"}, {"B", "-"}},
             {{"FORWARD", {"-j A"}}, {"A", {"-j B", "-j DROP"}}, {"B", {"-g A"}}},
             {kR, kF, "-j A"}},
        Case{
            "RefusalPutInFrontOfOurs", {}, {{"FORWARD", {"-j DROP", kR, kF}}}, {kR, kF, "-j DROP"}},
        Case{"AcceptInFrontOfRefuse", {}, {{"FORWARD", {kF, kR}}}, {kR, kF}},
        Case{"TwiceThere", {}, {{"FORWARD", {kR, kF, "-j LOG", kR}}}, {kR, kF, "-j LOG"}},
        Case{"OfAnotherVersion",
             {},
             {{"FORWARD", {"-j POINTSMAN-IPT-OLD", "-j LOG", kF}}},
             {kR, "-j LOG", kF}},
        Case{"AnotherModesRemain",
             {{"cali-FORWARD", "-"}},
             {{"FORWARD", {"-j POINTSMAN-IPVS-FORWARD", "-j cali-FORWARD"}}},
             {kR, "-j POINTSMAN-IPVS-FORWARD", "-j cali-FORWARD", kF}}),
    [](const auto& test) { return test.param.what; });

// What others did after us, and that gives no reason to move.
class FilterStaysTest : public JumpOrderTest {};
TEST_P(FilterStaysTest, NothingIsWritten) {
  Table kernel{"filter", GetParam().chains, GetParam().rules};
  EXPECT_EQ(kernel.Place("FORWARD", kFilterJumps), 0U);
}
INSTANTIATE_TEST_SUITE_P(
    , FilterStaysTest,
    ::testing::Values(Case{"AnEngineAtPositionOne",
                           {{"KUBE-ROUTER-FORWARD", "-"}},
                           {{"FORWARD", {"-j KUBE-ROUTER-FORWARD", kR, kF}}},
                           {}},
                      Case{"AnAdministratorsRules",
                           {{"DOCKER-USER", "-"}},
                           {{"FORWARD",
                             {"-j DOCKER-USER", "-s 192.0.2.1/32 -j DROP", kR, "-p tcp -j LOG", kF,
                              "-i x -j DROP", "-j DROP"}}},
                           {}},
                      Case{"KubeProxys",
                           {{"KUBE-FORWARD", "-"}, {"KUBE-EXTERNAL-SERVICES", "-"}},
                           {{"FORWARD",
                             {"-j KUBE-FORWARD", kR, kF,
                              "-m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES"}}},
                           {}}),
    [](const auto& test) { return test.param.what; });

class NatOrderTest : public JumpOrderTest {};
TEST_P(NatOrderTest, InFrontOfProxies) {
  ExpectPlaced("nat", "PREROUTING", {kServices});
}
INSTANTIATE_TEST_SUITE_P(
    , NatOrderTest,
    ::testing::Values(
        Case{"Nothing", {}, {}, {kS}},
        Case{"KubeProxy",
             {{"KUBE-SERVICES", "-"}},
             {{"PREROUTING", {"-m comment --comment x -j KUBE-SERVICES", kS}}},
             {kS, "-m comment --comment x -j KUBE-SERVICES"}},
        Case{"BehindThoseThatLead",
             {{"cali-PREROUTING", "-"}, {"OVN-PREROUTING", "-"}, {"KUBE-SERVICES", "-"}},
             {{"PREROUTING", {"-j cali-PREROUTING", "-j OVN-PREROUTING", "-j KUBE-SERVICES"}}},
             {"-j cali-PREROUTING", "-j OVN-PREROUTING", kS, "-j KUBE-SERVICES"}},
        Case{"NotBehindKubeProxyForThem",
             {{"cali-PREROUTING", "-"}, {"KUBE-SERVICES", "-"}},
             {{"PREROUTING", {"-j KUBE-SERVICES", "-j cali-PREROUTING"}}},
             {kS, "-j KUBE-SERVICES", "-j cali-PREROUTING"}},
        Case{"WhatTakesTheNodesOwnAddresses",
             {{"DOCKER", "-"}},
             {{"PREROUTING", {"-m addrtype --dst-type LOCAL -j DOCKER", kS}}},
             {kS, "-m addrtype --dst-type LOCAL -j DOCKER"}},
        Case{"InFrontOfOurOtherModes",
             {{"cali-PREROUTING", "-"}},
             {{"PREROUTING", {"-j cali-PREROUTING", "-j POINTSMAN-IPVS-PREROUTING"}}},
             {"-j cali-PREROUTING", kS, "-j POINTSMAN-IPVS-PREROUTING"}}),
    [](const auto& test) { return test.param.what; });

TEST(JumpOrder, InNatWhatOthersPutInFrontStaysThere) {
  Table kernel{
      "nat",
      {{"PREROUTING", "ACCEPT"}, {"KUBE-ROUTER-HAIRPIN", "-"}, {"ANTREA-PREROUTING", "-"}},
      {{"PREROUTING",
        {"-j ANTREA-PREROUTING", "-p tcp -j KUBE-ROUTER-HAIRPIN",
         "-m addrtype ! --dst-type LOCAL -j KUBE-ROUTER-HAIRPIN",
         "-p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080", kS, "-j KUBE-SERVICES"}}}};
  EXPECT_EQ(kernel.Place("PREROUTING", {kServices}), 0U);
}

TEST(JumpOrder, OneThatYieldsComesBehindOurOtherModes) {
  Table kernel{"nat", {}, {{"PREROUTING", {"-j POINTSMAN-USP-SERVICES", "-j KUBE-SERVICES"}}}};
  Jump jump = kServices;
  jump.yields = true;
  kernel.Place("PREROUTING", {jump});
  EXPECT_THAT(kernel.rules["PREROUTING"],
              ElementsAre("-j POINTSMAN-USP-SERVICES", kS, "-j KUBE-SERVICES"));
}

TEST(JumpOrder, OneThatIsLateComesBehindWhatRefusesSomePackets) {
  Table kernel{"filter",
               {{"FORWARD", "ACCEPT"}, {"cali-FORWARD", "-"}},
               {{"FORWARD", {"-j cali-FORWARD", "-s 192.0.2.1/32 -j DROP", "-p tcp -j LOG"}}}};
  std::vector<std::string>& rules = kernel.rules["FORWARD"];
  Jump jump = kForward;
  jump.late = true;
  kernel.Place("FORWARD", {jump});
  EXPECT_THAT(rules,
              ElementsAre("-j cali-FORWARD", "-s 192.0.2.1/32 -j DROP", "-p tcp -j LOG", kF));
  rules = {"-s 192.0.2.1/32 -j DROP", "-j DROP"};
  kernel.Place("FORWARD", {jump});
  EXPECT_THAT(rules, ElementsAre("-s 192.0.2.1/32 -j DROP", kF, "-j DROP"));
}

TEST(JumpOrder, WhatAcceptsComesBesideWhatAcceptsOfTheModeBefore) {
  for (const bool late : {false, true}) {
    Table kernel{
        "filter",
        {{"FORWARD", "ACCEPT"}},
        {{"FORWARD", {"-s 192.0.2.1/32 -j DROP", "-j POINTSMAN-NFT-FORWARD", "-i eth0 -j DROP"}}}};
    Jump jump = kForward;
    jump.late = late;
    kernel.Place("FORWARD", {jump});
    EXPECT_THAT(
        kernel.rules["FORWARD"],
        ElementsAre("-s 192.0.2.1/32 -j DROP", "-j POINTSMAN-NFT-FORWARD", kF, "-i eth0 -j DROP"));
  }
}

TEST(JumpOrder, NoFightWithAnAgentThatKeepsItsJumpLast) {
  Table kernel{"filter", {{"FORWARD", "ACCEPT"}, {"cali-FORWARD", "-"}, {"OTHER", "-"}}, {}};
  std::vector<std::string>& rules = kernel.rules["FORWARD"];
  const auto sync_theirs = [&] {
    std::erase(rules, "-j cali-FORWARD");
    rules.emplace_back("-j cali-FORWARD");
  };
  sync_theirs();
  kernel.Place("FORWARD", kFilterJumps);
  EXPECT_THAT(rules, ElementsAre(kR, "-j cali-FORWARD", kF));
  // Another chain comes behind ours: that alone says nothing of its agent.
  rules.emplace_back("-j OTHER");
  EXPECT_GT(kernel.Place("FORWARD", kFilterJumps), 0U);
  EXPECT_THAT(rules, ElementsAre(kR, "-j cali-FORWARD", "-j OTHER", kF));
  // This one was in front before. Accepting behind it would change nothing.
  sync_theirs();
  EXPECT_GT(kernel.Place("FORWARD", kFilterJumps), 0U);
  EXPECT_THAT(rules, ElementsAre(kR, "-j OTHER", "-j cali-FORWARD"));
  sync_theirs();
  EXPECT_EQ(kernel.Place("FORWARD", kFilterJumps), 0U);
  // Now it would.
  kernel.chains["FORWARD"] = "DROP";
  EXPECT_GT(kernel.Place("FORWARD", kFilterJumps), 0U);
  EXPECT_THAT(rules, ElementsAre(kR, "-j OTHER", "-j cali-FORWARD", kF));
  kernel.chains["FORWARD"] = "ACCEPT";
  rules.emplace_back("-i eth0 -j DROP");
  EXPECT_EQ(kernel.Place("FORWARD", kFilterJumps), 0U);
  rules.pop_back();
  EXPECT_GT(kernel.Place("FORWARD", kFilterJumps), 0U);
  EXPECT_THAT(rules, ElementsAre(kR, "-j OTHER", "-j cali-FORWARD"));
}

// A handover makes another dataplane, and an agent does alike in every builtin chain.
TEST(JumpOrder, WhatOneModeLearntOfSuchAnAgentAllModesKnow) {
  const auto known = std::make_shared<KnownKeepers>();
  Table one{"filter", {{"FORWARD", "ACCEPT"}, {"cali-FORWARD", "-"}}, {}, LastKeepers(known)};
  std::vector<std::string>& forward = one.rules["FORWARD"];
  forward = {"-j cali-FORWARD"};
  one.Place("FORWARD", kFilterJumps);
  forward = {kR, kF, "-j cali-FORWARD"};  // theirs looked
  one.Place("FORWARD", kFilterJumps);
  EXPECT_THAT(forward, ElementsAre(kR, "-j cali-FORWARD"));

  Table next{"filter",
             {{"FORWARD", "ACCEPT"},
              {"INPUT", "ACCEPT"},
              {"cali-FORWARD", "-"},
              {"cali-INPUT", "-"},
              {"OTHER", "-"}},
             {{"FORWARD", {"-j cali-FORWARD"}}, {"INPUT", {"-j cali-INPUT"}}},
             LastKeepers(known)};
  next.Place("FORWARD", kFilterJumps);
  EXPECT_THAT(next.rules["FORWARD"], ElementsAre(kR, "-j cali-FORWARD"));
  next.Place("INPUT", kFilterJumps);
  EXPECT_THAT(next.rules["INPUT"], ElementsAre(kR, "-j cali-INPUT"));
  next.rules["INPUT"] = {"-j OTHER"};
  next.Place("INPUT", kFilterJumps);
  EXPECT_THAT(next.rules["INPUT"], ElementsAre(kR, "-j OTHER", kF)) << "of that agent only";
}

// Whatever is there: one step leads to an order that needs no other, with each jump once, and the
// rules of others as they were.
TEST(JumpOrder, OneStepIsEnough) {
  const std::vector<std::string> others{"-j DROP",
                                        "-j LOG",
                                        "-j A",
                                        "-i x -j A",
                                        "-i x -j DROP",
                                        "-g B",
                                        "-j B",
                                        "-j RETURN",
                                        "-j KUBE-SERVICES",
                                        "-m addrtype --dst-type LOCAL -j A",
                                        "-j POINTSMAN-USP-X",
                                        "-j POINTSMAN-IPT-OLD",
                                        kR,
                                        kF,
                                        kS};
  const std::map<std::string, std::vector<Jump>> wanted{
      {"filter", {kForward, kReject, {"-j POINTSMAN-IPT-HEALTH", JumpPlace::kBehindPolicies}}},
      {"nat", {{"-j POINTSMAN-IPT-OWN", JumpPlace::kBeforeProxies}, kServices, kReject}}};
  const auto theirs = [](const Table& table) {
    std::vector<std::string> rules = table.rules.at("INPUT");
    std::erase_if(rules,
                  [](const std::string& rule) { return rule.find(kPrefix) != std::string::npos; });
    return rules;
  };
  std::mt19937 random(20261129);  // NOLINT(cert-msc51-cpp): the same each time
  for (int round = 0; round < 4000; ++round) {
    Table kernel{
        random() % 2 == 0 ? "filter" : "nat",
        {{"INPUT", random() % 2 == 0 ? "DROP" : "ACCEPT"},
         {"A", "-"},
         {"B", "-"},
         {"KUBE-SERVICES", "-"}},
        {{"B", {random() % 2 == 0 ? "-j REJECT" : "-p tcp -j RETURN", "-j DROP"}}, {"INPUT", {}}}};
    const std::vector<Jump>& ours = wanted.at(kernel.name);
    for (size_t count = random() % 8; count > 0; --count)
      kernel.rules["INPUT"].push_back(others[random() % others.size()]);
    const std::vector<std::string> before = theirs(kernel);
    kernel.Place("INPUT", ours);
    EXPECT_EQ(theirs(kernel), before);
    EXPECT_EQ(kernel.Place("INPUT", ours), 0U) << ::testing::PrintToString(kernel.rules["INPUT"]);
    EXPECT_EQ(kernel.rules["INPUT"].size(), before.size() + ours.size());
  }
}

}  // namespace
}  // namespace pointsman::agent::xtables
