#include "kubectl-pointsman/status.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "kubectl-pointsman/testing_objects.h"

namespace pointsman::plugin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// node-1 is there, node-2 watches its clients, node-3 was not asked.
std::vector<kube::NodeProxy> UnderWay() {
  nlohmann::json second = ProxyJson("node-2", "ipvs", 2);
  second["status"]["observedRevision"] = 1;
  second["metadata"]["annotations"]["pointsman.io/updated-at"] = "2026-01-01T12:02:00Z";
  second["status"]["conditions"][1] =
      ConditionJson("Degraded", "False", "HandoverWatched", "what clients meet is watched");
  return {Proxy("node-1", "ipvs", 2), kube::NodeProxyFromJson(second),
          Proxy("node-3", "iptables", 1)};
}

RolloutView ViewAt(const std::string& time,
                   kube::ProxyConfiguration configuration = Configuration(),
                   std::vector<kube::NodeProxy> proxies = UnderWay()) {
  return MakeRolloutView(std::move(configuration), std::move(proxies), {}, At(time));
}

TEST(RolloutViewTest, CountsWavesAndSaysWhatNodesWaitFor) {
  const RolloutView view = ViewAt("2026-01-01T12:02:05Z");
  ASSERT_EQ(view.waves.size(), 2U);
  EXPECT_EQ(view.waves[0].name, "canary");
  EXPECT_EQ(view.waves[0].nodes, 1);
  EXPECT_EQ(view.waves[0].done, 1);
  EXPECT_EQ(view.waves[1].nodes, 2);
  EXPECT_EQ(view.waves[1].done, 0);
  EXPECT_EQ(view.waves[1].note, "1 at a time");
  ASSERT_EQ(view.in_flight.size(), 1U);
  EXPECT_EQ(view.in_flight[0].node, "node-2");
  EXPECT_EQ(view.in_flight[0].what, "what clients meet is watched");
  EXPECT_EQ(view.Outcome(), ExitCode::kNotFinished);
  EXPECT_FALSE(view.AtRest());
  EXPECT_FALSE(view.eta) << "of the nodes after the canary none is there yet";
}

// The canary's soak says nothing of how long the others take.
TEST(RolloutViewTest, TheEtaIsThatOfTheNodesAfterTheCanaries) {
  std::vector<kube::NodeProxy> proxies = UnderWay();
  proxies[1] = Proxy("node-2", "ipvs", 2,
                     R"({"metadata": {"annotations": {"pointsman.io/updated-at":
                        "2026-01-01T12:02:00Z"}}})");
  const RolloutView view = ViewAt("2026-01-01T12:02:40Z", Configuration(), std::move(proxies));
  ASSERT_TRUE(view.eta);
  EXPECT_EQ(view.eta->count(), 41) << "one node in 40 s, one is left";
  EXPECT_FALSE(ViewAt("2026-01-01T11:00:00Z").eta) << "this machine's clock is behind";
}

TEST(RolloutViewTest, CanariesByLabelAreThoseOfTheLabel) {
  const auto configuration = Configuration(
      R"({"spec": {"rollout": {"canary": {"nodeSelector": {"matchLabels": {"canary": "y"}}}}}})");
  const RolloutView view = MakeRolloutView(
      configuration, UnderWay(),
      {{"node-1", {}}, {"node-2", {{"canary", "y"}}}, {"node-3", {{"canary", "y"}}}},
      At("2026-01-01T12:02:05Z"));
  ASSERT_EQ(view.waves.size(), 2U);
  EXPECT_EQ(view.waves[0].nodes, 2);
  EXPECT_EQ(view.waves[0].done, 0);
  EXPECT_EQ(view.waves[1].done, 1);
}

struct OutcomeCase {
  const char* phase;
  ExitCode outcome;
  bool at_rest;
};
class OutcomeTest : public ::testing::TestWithParam<OutcomeCase> {};

TEST_P(OutcomeTest, FollowsFromThePhase) {
  const auto configuration =
      Configuration(R"({"status": {"phase": ")" + std::string(GetParam().phase) + R"("}})");
  const RolloutView view = ViewAt("2026-01-01T12:30:00Z", configuration, {});
  EXPECT_EQ(view.Outcome(), GetParam().outcome);
  EXPECT_EQ(view.AtRest(), GetParam().at_rest);
}
INSTANTIATE_TEST_SUITE_P(Phases, OutcomeTest,
                         ::testing::Values(OutcomeCase{"Complete", ExitCode::kOk, true},
                                           OutcomeCase{"Pending", ExitCode::kNotFinished, false},
                                           OutcomeCase{"Preflight", ExitCode::kNotFinished, false},
                                           OutcomeCase{"Canary", ExitCode::kNotFinished, false},
                                           OutcomeCase{"Paused", ExitCode::kNotFinished, true},
                                           OutcomeCase{"Degraded", ExitCode::kFailed, true},
                                           OutcomeCase{"RollingBack", ExitCode::kFailed, false},
                                           OutcomeCase{"RolledBack", ExitCode::kFailed, true},
                                           OutcomeCase{"Rejected", ExitCode::kFailed, true}));

TEST(RolloutViewTest, WhatTheOperatorHasNotSeenIsNotFinished) {
  const RolloutView view =
      ViewAt("2026-01-01T12:30:00Z",
             Configuration(R"({"metadata": {"generation": 3}, "status": {"phase": "Complete"}})"));
  EXPECT_EQ(view.Outcome(), ExitCode::kNotFinished);
  EXPECT_FALSE(view.AtRest());
  EXPECT_THAT(StatusText(view, false, {}), HasSubstr("has not looked at this specification"));
}

TEST(RolloutViewTest, ANodeWhoseAgentIsSilentWaitsForIt) {
  std::vector<kube::NodeProxy> proxies;
  proxies.push_back(Proxy("node-1", "ipvs", 2, R"({"metadata": {"generation": 6}})"));
  proxies.push_back(Proxy("node-2", "iptables", 1,
                          R"({"metadata": {"generation": 6},
                              "spec": {"candidate": {"revision": 2, "mode": "ipvs"}}})"));
  const RolloutView view = ViewAt("2026-01-01T12:30:00Z", Configuration(), std::move(proxies));
  ASSERT_EQ(view.in_flight.size(), 2U);
  EXPECT_THAT(view.in_flight[0].what, HasSubstr("to see the order"));
  EXPECT_THAT(view.in_flight[1].what, HasSubstr("whether it can run ipvs"));
}

TEST(StatusTextTest, HasEverythingInPlainText) {
  const std::string text = StatusText(ViewAt("2026-01-01T12:02:05Z"), false, {});
  EXPECT_EQ(
      text,
      "ProxyConfiguration cluster: mode ipvs, revision 2; the last that was good everywhere: 1\n"
      "Phase       RollingOut  1 of 3 nodes ready\n"
      "canary      [####################]  1/1   then 1m0s of soak\n"
      "the others  [--------------------]  0/2   1 at a time\n"
      "In flight\n"
      "  node-2   what clients meet is watched\n");
}

TEST(StatusTextTest, KubeProxyIsTalkedOfWhereItIsTakenOver) {
  const std::string taking =
      StatusText(ViewAt("2026-01-01T12:02:05Z", Configuration(R"({"status": {"conditions": [{
                 "type": "KubeProxyReplaced", "status": "False", "reason": "TakingOver",
                 "message": "1 of 3 nodes without kube-proxy"}]}})")),
                 false, {});
  EXPECT_THAT(taking, HasSubstr("kube-proxy  TakingOver: 1 of 3 nodes without kube-proxy\n"));
  EXPECT_THAT(StatusText(ViewAt("2026-01-01T12:02:05Z"), false, {}), Not(HasSubstr("kube-proxy")));
}

TEST(StatusTextTest, ATerminalGetsColorsAndNothingElseDoes) {
  const RolloutView view = ViewAt("2026-01-01T12:02:05Z");
  EXPECT_THAT(StatusText(view, false, {.live = true, .color = true}), HasSubstr("\x1b[33m"));
  EXPECT_THAT(StatusText(view, true, {.live = true}), Not(HasSubstr("\x1b")));
}

TEST(StatusTextTest, ALineForEachNodeOnDemand) {
  const std::string text = StatusText(ViewAt("2026-01-01T12:02:05Z"), true, {});
  EXPECT_THAT(text, HasSubstr("NODE     DESIRED    ACTIVE     REVISION   READY"));
  EXPECT_THAT(text, HasSubstr("node-2   ipvs       ipvs       1/2        True"));
  EXPECT_THAT(text, HasSubstr("not asked yet"));
}

TEST(StatusTextTest, TroubleIsSaidWithItsReason) {
  auto configuration = Configuration(R"({"status": {"phase": "Degraded"}})");
  configuration.status.conditions.push_back(kube::ConditionFromJson(ConditionJson(
      "Degraded", "True", "NodeFailed", "revision 2 failed on node-2 (clients unanswered)")));
  configuration.status.conditions.push_back(
      kube::ConditionFromJson(ConditionJson("acme.io/Gate", "False", "Closed", "not on Fridays")));
  const std::string text = StatusText(ViewAt("2026-01-01T12:30:00Z", configuration), false, {});
  EXPECT_THAT(text, HasSubstr("NodeFailed: revision 2 failed on node-2 (clients unanswered)"));
  EXPECT_THAT(text, HasSubstr("acme.io/Gate is False: not on Fridays"));
  EXPECT_THAT(text, Not(HasSubstr("ETA")));
}

// Names of nodes are checked by the API server; messages, modes and versions are the node's words.
TEST(StatusTextTest, HostileTextDoesNothingToATerminal) {
  auto configuration = Configuration();
  configuration.status.phase = kHostile;
  for (kube::Condition& condition : configuration.status.conditions)
    condition.reason = condition.message = kHostile;
  nlohmann::json object = ProxyJson("node-1", "ipvs", 2);
  object["status"]["observedRevision"] = 1;
  object["status"]["activeMode"] = object["status"]["drainingMode"] = kHostile;
  object["status"]["kernel"]["release"] = kHostile;
  object["status"]["conditions"][1] = ConditionJson("Degraded", "True", kHostile, kHostile);
  RolloutView view =
      ViewAt("2026-01-01T12:30:00Z", configuration, {kube::NodeProxyFromJson(object)});
  view.unreadable = {kHostile};
  for (const bool nodes : {false, true})
    EXPECT_TRUE(IsHarmless(StatusText(view, nodes, {}))) << StatusText(view, nodes, {});
  EXPECT_TRUE(IsHarmless(StatusLine(view)));
  EXPECT_THAT(StatusText(view, false, {}), HasSubstr("\\x1b[2J"));
}

TEST(StatusLineTest, IsOneLine) {
  EXPECT_EQ(StatusLine(ViewAt("2026-01-01T12:02:05Z")),
            "cluster RollingOut: 1 of 3 nodes updated, 3 ready; node-2 waits for: what clients "
            "meet is watched");
}

TEST(StatusJsonTest, HasWhatAScriptAsksFor) {
  const nlohmann::json document = StatusJson(ViewAt("2026-01-01T12:02:05Z"));
  EXPECT_EQ(document["phase"], "RollingOut");
  EXPECT_EQ(document["finished"], false);
  EXPECT_EQ(document["inFlight"][0]["node"], "node-2");
  EXPECT_EQ(document["nodes"].size(), 3U);
  EXPECT_EQ(document["nodeCounts"]["desired"], 3);
}

TEST(RoughlyTest, HasTheUnitOfAPerson) {
  using namespace std::chrono_literals;
  EXPECT_EQ(Roughly(40s), "40 s");
  EXPECT_EQ(Roughly(5min), "5 min");
  EXPECT_EQ(Roughly(2h + 5min), "2 h 5 min");
}

}  // namespace
}  // namespace pointsman::plugin
