#include "kubectl-pointsman/preflight.h"

#include <gmock/gmock.h>

#include "kubectl-pointsman/testing_objects.h"

namespace pointsman::plugin {
namespace {

using ::testing::HasSubstr;

kube::NodeProxy Reporting(const std::string& name, bool passed, const std::string& message) {
  kube::NodeProxy proxy = Proxy(name, "iptables", 1);
  proxy.status.preflights = {
      {"ipvs", passed, passed ? "PreflightPassed" : "ModuleMissing", message},
      {"nftables", true, "PreflightPassed", ""}};
  return proxy;
}

std::vector<kube::Node> Nodes(const std::vector<std::string>& names) {
  std::vector<kube::Node> nodes;
  for (const std::string& name : names)
    nodes.emplace_back().name = name;
  return nodes;
}

PreflightReport Report() {
  kube::NodeProxy second = Reporting("node-2", false, "kernel 6.1.0 has no ip_vs");
  second.status.neighbours = {{"azure-npm",
                               "PolicyEngine",
                               {{"ipvs", "Refused"}, {"nftables", "Fine"}},
                               "found by chain AZURE-NPM"}};
  return MakePreflightReport(kube::Mode::kIpvs, Nodes({"node-1", "node-2", "node-3", "node-4"}),
                             {Reporting("node-1", true, ""), second,
                              Reporting("node-3", false, "kernel 6.1.0 has no ip_vs")},
                             {});
}

TEST(PreflightTest, NodesThatHaveTheSameToSayAreToldTogether) {
  EXPECT_EQ(PreflightText(Report(), false),
            "1 of 4 nodes could run ipvs; of 1 it is not known\n"
            "  can      node-1\n"
            "  cannot   node-2, node-3\n"
            "           kernel 6.1.0 has no ip_vs\n"
            "  unknown  node-4\n"
            "           no ProxyConfiguration selects it, so its agent was not asked (--ask asks)\n"
            "Neighbours\n"
            "  azure-npm (PolicyEngine): Refused on node-2: found by chain AZURE-NPM; "
            "docs/neighbours.md says why, and what spec.neighbours.accept does\n");
}

TEST(PreflightTest, ALineForEachNodeOnDemand) {
  const std::string text = PreflightText(Report(), true);
  EXPECT_THAT(text, HasSubstr("node-2   cannot    iptables   kernel 6.1.0 has no ip_vs"));
}

TEST(PreflightTest, TheOutcomeIsTheWorstOfTheNodes) {
  EXPECT_EQ(Report().Outcome(), ExitCode::kObjections);
  const auto of = [](const std::vector<std::string>& wanted) {
    return MakePreflightReport(kube::Mode::kIpvs, Nodes({"node-1", "node-4"}),
                               {Reporting("node-1", true, "")}, wanted);
  };
  EXPECT_EQ(of({}).Outcome(), ExitCode::kNotFinished);
  EXPECT_EQ(of({"node-1"}).Outcome(), ExitCode::kOk);
  EXPECT_EQ(of({"node-1"}).nodes.size(), 1U);
}

TEST(PreflightTest, ANodeThatIsNotThereIsSaid) {
  try {
    MakePreflightReport(kube::Mode::kIpvs, Nodes({"node-1"}), {}, {"node-1", kHostile});
    FAIL() << "it is not there";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), ExitCode::kNotFound);
    EXPECT_TRUE(IsHarmless(failure.what())) << failure.what();
  }
}

// A rollout has asked anew, with the settings that it is going to use.
TEST(PreflightTest, TheAnswerToARolloutsQuestionIsTheBetterOne) {
  kube::NodeProxy proxy = Reporting("node-1", true, "");
  proxy.spec.candidate = kube::NodeProxyCandidate{.revision = 2, .mode = kube::Mode::kIpvs};
  proxy.status.candidate = kube::CandidateStatus{2, "iptables", false, "no ip_vs_lc"};
  EXPECT_EQ(JudgeNode("node-1", &proxy, kube::Mode::kIpvs).verdict, Verdict::kCannot);
  EXPECT_EQ(JudgeNode("node-1", &proxy, kube::Mode::kNftables).verdict, Verdict::kCan);
  proxy.status.candidate->revision = 1;  // an answer to an earlier question
  EXPECT_EQ(JudgeNode("node-1", &proxy, kube::Mode::kIpvs).verdict, Verdict::kCan);
}

TEST(PreflightTest, AnOlderAgentsNodeIsNotKnown) {
  const kube::NodeProxy old = Proxy("node-1", "iptables", 1);
  EXPECT_EQ(JudgeNode("node-1", &old, kube::Mode::kIpvs).verdict, Verdict::kUnknown);
  EXPECT_THAT(JudgeNode("node-1", &old, kube::Mode::kIpvs).message, HasSubstr("version 0.1.0"));
}

TEST(PreflightTest, HostileTextDoesNothingToATerminal) {
  kube::NodeProxy proxy = Reporting("node-1", false, kHostile);
  proxy.status.neighbours = {{kHostile, kHostile, {{"ipvs", kHostile}}, kHostile}};
  const PreflightReport report =
      MakePreflightReport(kube::Mode::kIpvs, Nodes({"node-1"}), {proxy}, {});
  EXPECT_TRUE(IsHarmless(PreflightText(report, false)));
  EXPECT_TRUE(IsHarmless(PreflightText(report, true)));
}

TEST(PreflightTest, TheDocumentHasEachNode) {
  const nlohmann::json document = PreflightJson(Report());
  EXPECT_EQ(document["cannot"], 2);
  EXPECT_EQ(document["nodes"][1]["verdict"], "cannot");
  EXPECT_EQ(document["nodes"][1]["neighbours"][0]["level"], "Refused");
}

}  // namespace
}  // namespace pointsman::plugin
