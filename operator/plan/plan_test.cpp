#include "operator/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/pointsman/settings_json.h"
#include "operator/plan/node_list.h"
#include "operator/plan/plan_fixture.h"

namespace pointsman::op {
namespace {

using kube::ConditionStatus;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_F(PlanTest, WithoutClusterCidrItSaysWhatThatMeans) {
  AddNodes(1);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_TRUE(True("Accepted"));
  EXPECT_THAT(Message("Accepted"), HasSubstr("clusterCIDR is not set"));
  world_.Apply("main", R"({"clusterCIDR": "10.244.0.0/16"})");
  world_.Settle();
  EXPECT_EQ(Message("Accepted"), "the specification is valid and in effect");
}

TEST_F(PlanTest, RollsOutOneNodeAtATimeAndCompletes) {
  AddNodes(5);
  world_.Apply("main", kNoCanary);
  world_.Settle([&] { EXPECT_LE(world_.InTransition(), 1U); });
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes, (kube::NodeCounts{5, 5, 5, 0, 0}));
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"ipvs", 5}}));
  EXPECT_EQ(Status().observed_generation, 1);
  EXPECT_EQ(Status().current_revision, Status().update_revision);
  EXPECT_TRUE(True("Accepted"));
  EXPECT_TRUE(True("PreflightPassed"));
  EXPECT_TRUE(True("Available"));
  EXPECT_FALSE(True("Progressing"));
  EXPECT_FALSE(True("Degraded"));
  EXPECT_FALSE(True("Paused"));
  EXPECT_FALSE(True("RolledBack"));
  for (const char* reason : {"RolloutStarted", "NodeUpdating", "RolloutComplete"}) {
    EXPECT_TRUE(world_.HasEvent(reason)) << reason;
  }
  EXPECT_EQ(world_.Configuration("main").finalizers, std::vector<std::string>{kube::kFinalizer});
}

TEST_F(PlanTest, ChangesNothingWhenNothingChanged) {
  AddNodes(3);
  world_.Apply("main");
  world_.Settle();
  const Plan plan = world_.MakePlan();
  ASSERT_EQ(plan.configurations.size(), 1U);
  EXPECT_TRUE(plan.configurations[0].changes.empty());
  EXPECT_TRUE(plan.configurations[0].events.empty());
  EXPECT_EQ(plan.configurations[0].status, Status());
  EXPECT_FALSE(plan.wake_up);
}

TEST_F(PlanTest, AsksEveryAgentBeforeAnyNodeChanges) {
  AddNodes(3);
  world_.agents["n3"].alive = false;
  world_.Apply("main", kNoCanary);
  for (int i = 0; i < 10; ++i)
    Round();
  EXPECT_EQ(Status().phase, "Preflight");
  EXPECT_EQ(Reason("PreflightPassed"), "WaitingForAgents");
  EXPECT_THAT(Message("PreflightPassed"), HasSubstr("n3"));
  for (const auto& [name, proxy] : world_.proxies) {
    EXPECT_EQ(proxy->spec.revision, 0) << name;
    EXPECT_TRUE(proxy->spec.candidate) << name;
  }
  world_.agents["n3"].alive = true;
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(PlanTest, AnAgentThatNeverAnswersIsLeftOutAfterTheDeadline) {
  AddNodes(3);
  world_.agents["n2"].alive = false;
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Status().nodes.updated, 2);
  EXPECT_EQ(Reason("Degraded"), "AgentsMissing");
  EXPECT_THAT(Message("Degraded"), HasSubstr("n2"));
  EXPECT_FALSE(True("Available"));
  world_.agents["n2"].alive = true;
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_FALSE(True("Degraded"));
}

TEST_F(PlanTest, ANodeThatIsNotReadyHoldsUpNobody) {
  AddNodes(3);
  world_.SetDead("n1", true);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes.updated, 2);
  EXPECT_EQ(Reason("Degraded"), "NodesUnreachable");
  EXPECT_THAT(Message("Degraded"), HasSubstr("n1"));
  world_.SetDead("n1", false);
  world_.Settle();
  EXPECT_EQ(Status().nodes.updated, 3);
  EXPECT_FALSE(True("Degraded"));
}

TEST_F(PlanTest, ANodeThatDiesInTransitionHoldsUpTheOthersUntilTheDeadlineOnly) {
  AddNodes(3);
  world_.Apply("main", kNoCanary);
  for (int i = 0; i < 10 && world_.InTransition() == 0; ++i) {
    world_.Perform(world_.MakePlan());
    if (world_.InTransition() == 0) world_.StepAgents();
  }
  ASSERT_EQ(world_.InTransition(), 1U);
  world_.SetDead("n1", true);
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_EQ(AtRevision(1), 1);
  world_.Advance(minutes(11));
  world_.Settle();
  EXPECT_EQ(Status().nodes.updated, 2);
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_FALSE(True("RolledBack"));
}

TEST_F(PlanTest, FallbackIsNoFailure) {
  AddNodes(3);
  world_.agents["n2"].can_run = {kube::Mode::kIptables};
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_TRUE(True("Available"));
  EXPECT_FALSE(True("Degraded"));
  EXPECT_FALSE(True("PreflightPassed"));
  EXPECT_EQ(Reason("PreflightPassed"), "NodesCannotRunMode");
  EXPECT_THAT(Message("PreflightPassed"),
              AllOf(HasSubstr("1 node of 3 cannot run ipvs"), HasSubstr("n2 (no module for ipvs"),
                    HasSubstr("runs iptables")));
  EXPECT_EQ(Status().nodes, (kube::NodeCounts{3, 3, 3, 1, 0}));
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"iptables", 1}, {"ipvs", 2}}));
  EXPECT_TRUE(world_.HasEvent("PreflightFailed"));
  // The module appears: the agent moves by itself, and the condition follows.
  world_.agents["n2"].can_run.insert(kube::Mode::kIpvs);
  world_.Settle();
  EXPECT_TRUE(True("PreflightPassed"));
  EXPECT_EQ(Status().nodes.fallback, 0);
}

TEST_F(PlanTest, WithoutFallbackSuchANodeStaysAsItIs) {
  AddNodes(2);
  world_.agents["n2"].can_run = {};
  world_.Apply("main", R"({"fallbackModes": [], "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason("Degraded"), "NoModeCanRun");
  EXPECT_EQ(world_.Proxy("n2")->spec.revision, 0);
  EXPECT_EQ(world_.Proxy("n1")->status.active_mode, "ipvs");
  EXPECT_EQ(Status().nodes.degraded, 1);
}

TEST_F(PlanTest, WhatIsRefusedBesideANeighbourIsKnownBeforeAnyNodeIsChanged) {
  AddNodes(3);
  world_.Apply("main", R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  ASSERT_EQ(Status().phase, "Complete");
  const int64_t before = Status().current_revision;
  for (auto& [name, agent] : world_.agents)
    agent.refuses_beside = {{kube::Mode::kIpvs, "azure-npm"}};
  world_.Apply("main", R"({"mode": "ipvs", "fallbackModes": [],
                           "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  for (const auto& [name, proxy] : world_.proxies) {
    EXPECT_EQ(proxy->spec.revision, before) << name;
    EXPECT_EQ(proxy->status.active_mode, "iptables") << name;
  }
  EXPECT_FALSE(True("PreflightPassed"));
  EXPECT_THAT(Message("PreflightPassed"), HasSubstr("refused beside azure-npm"));
  // Accepted by another name nothing moves, by its own every node does.
  world_.Apply("main",
               R"({"mode": "ipvs", "fallbackModes": [], "neighbours": {"accept": ["calico"]},
                           "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"iptables", 3}}));
  world_.Apply("main", R"({"mode": "ipvs", "fallbackModes": [],
                           "neighbours": {"accept": ["calico", "azure-npm"]},
                           "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"ipvs", 3}}));
}

TEST_F(PlanTest, CanarySoaksFirst) {
  AddNodes(4);
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 1, "soak": "60s"}, "minReady": "10s",
                           "maxUnavailable": 4}})");
  for (int i = 0; i < 10; ++i)
    Round();
  EXPECT_EQ(AtRevision(1), 1);
  EXPECT_EQ(Status().phase, "Canary");
  world_.Advance(seconds(69));
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_EQ(AtRevision(1), 1);
  world_.Advance(seconds(1));
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_EQ(AtRevision(1), 4);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(PlanTest, CanariesCanBeSelected) {
  AddNodes(3);
  world_.SetLabels("n3", {{"canary", "yes"}});
  world_.Apply("main", R"({"rollout": {"maxUnavailable": 3, "canary":
      {"soak": "60s", "nodeSelector": {"matchLabels": {"canary": "yes"}}}}})");
  for (int i = 0; i < 10; ++i)
    Round();
  EXPECT_EQ(world_.Proxy("n3")->spec.revision, 1);
  EXPECT_EQ(AtRevision(1), 1);
  world_.Settle();
  EXPECT_EQ(AtRevision(1), 3);
}

TEST_F(PlanTest, PausedStopsBeforeTheNextNode) {
  AddNodes(3);
  world_.Apply("main", R"({"rollout": {"paused": true, "canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Paused");
  EXPECT_TRUE(True("Paused"));
  EXPECT_TRUE(True("PreflightPassed"));
  EXPECT_EQ(AtRevision(1), 0);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_FALSE(True("Paused"));
}

TEST_F(PlanTest, MaxUnavailableIsUsedInFull) {
  AddNodes(10);
  world_.Apply("main", R"({"rollout": {"maxUnavailable": "30%", "canary": {"nodes": 0}}})");
  size_t most = 0;
  world_.Settle([&] { most = std::max(most, world_.InTransition()); });
  EXPECT_EQ(most, 3U);
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(PlanTest, SettingsRollOutByTheSameWaves) {
  AddNodes(4);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  world_.Apply("main", R"({"ipvs": {"scheduler": "lc"}, "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle([&] { EXPECT_LE(world_.InTransition(), 1U); });
  EXPECT_EQ(Status().update_revision, 2);
  EXPECT_EQ(AtRevision(2), 4);
  // What was there before is the revision it was.
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().update_revision, 1);
  EXPECT_EQ(Status().current_revision, 1);
  EXPECT_EQ(AtRevision(1), 4);
  // What concerns only the rollout is no revision.
  world_.Apply("main", R"({"rollout": {"maxUnavailable": 2}})");
  world_.Settle();
  EXPECT_EQ(world_.revisions.size(), 2U);
}

TEST_F(PlanTest, RollsBackWhenANodeFails) {
  AddNodes(4);
  world_.Apply("main", R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  world_.agents["n2"].fails = {2};
  world_.Apply("main", kNoCanary);
  world_.Settle([&] { EXPECT_LE(world_.InTransition(), 1U); });
  EXPECT_EQ(Status().phase, "RolledBack");
  EXPECT_TRUE(True("RolledBack"));
  EXPECT_THAT(Message("RolledBack"),
              AllOf(HasSubstr("n2"), HasSubstr("a probe failed"), HasSubstr("revision 1")));
  EXPECT_FALSE(True("Available"));
  EXPECT_EQ(AtRevision(1), 4);
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"iptables", 4}}));
  EXPECT_EQ(Status().current_revision, 1);
  EXPECT_EQ(Status().update_revision, 2);
  EXPECT_TRUE(world_.HasEvent("RollingBack"));
  // It stays so until somebody edits the specification: then it is a new try.
  world_.Advance(minutes(60));
  world_.Settle();
  EXPECT_EQ(AtRevision(1), 4);
  world_.agents["n2"].fails = {};
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(AtRevision(2), 4);
  EXPECT_FALSE(True("RolledBack"));
}

TEST_F(PlanTest, PausesWhenANodeFails) {
  AddNodes(4);
  world_.Apply("main", R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  world_.agents["n1"].fails = {2};
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "onFailure": "Pause"}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
  EXPECT_THAT(Message("Degraded"), AllOf(HasSubstr("n1"), HasSubstr("a probe failed")));
  EXPECT_EQ(AtRevision(2), 1);
  EXPECT_EQ(AtRevision(1), 3);
  // The node recovers: it goes on.
  world_.agents["n1"].fails = {};
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(PlanTest, WithNothingToGoBackToItStopsAndSaysSo) {
  AddNodes(3);
  world_.agents["n1"].fails = {1};
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason("RolledBack"), "NoEarlierRevision");
  EXPECT_EQ(AtRevision(1), 1);
}

TEST_F(PlanTest, ANodeThatDoesNotGetThereFailsAfterTheDeadline) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  for (int i = 0; i < 3; ++i)
    Round();
  world_.Perform(world_.MakePlan());
  ASSERT_GE(AtRevision(1), 1);
  for (auto& [name, agent] : world_.agents) {
    if (world_.Proxy(name)->status.observed_revision == 0) agent.alive = false;
  }
  world_.Settle();
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
  EXPECT_THAT(Message("Degraded"), HasSubstr("progress deadline"));
}

TEST_F(PlanTest, GoesBackToARevisionOnRequest) {
  AddNodes(2);
  world_.Apply("main", R"({"mode": "iptables"})");
  world_.Settle();
  world_.Apply("main");
  world_.Settle();
  world_.Apply("main", R"({"rollout": {"rollbackTo": 1}})");
  world_.Settle();
  EXPECT_EQ(AtRevision(1), 2);
  EXPECT_EQ(Status().update_revision, 1);
  world_.Apply("main", R"({"rollout": {"rollbackTo": 77}})");
  world_.Settle();
  EXPECT_EQ(Reason("Accepted"), "RevisionNotFound");
  EXPECT_EQ(AtRevision(1), 2);
}

TEST_F(PlanTest, KeepsOnlyTheRevisionsItShould) {
  AddNodes(1);
  for (const char* scheduler : {"rr", "lc", "wlc", "sh", "sed", "nq"}) {
    world_.Apply("main", std::string(R"({"rollout": {"revisionHistoryLimit": 2}, "ipvs":
                                         {"scheduler": ")") +
                             scheduler + "\"}}");
    world_.Settle();
  }
  EXPECT_EQ(world_.revisions.size(), 3U);  // the current one and two before it
  EXPECT_EQ(Status().current_revision, 6);
}

TEST_F(PlanTest, AnInvalidEditChangesNothing) {
  AddNodes(3);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  const auto specs = [&] {
    std::map<std::string, nlohmann::json> all;
    for (const auto& [name, proxy] : world_.proxies)
      all[name] = kube::ToJson(proxy->spec);
    return all;
  };
  const auto before = specs();
  world_.Apply("main", R"({"ipvs": {"scheduler": "fast"}, "nodeSelector": {"x": 1}})");
  world_.Settle();
  EXPECT_FALSE(True("Accepted"));
  EXPECT_EQ(Reason("Accepted"), "InvalidSpec");
  EXPECT_THAT(Message("Accepted"),
              AllOf(HasSubstr("spec.ipvs.scheduler"), HasSubstr("spec.nodeSelector.x")));
  EXPECT_EQ(Status().phase, "Rejected");
  EXPECT_EQ(Status().observed_generation, 2);
  EXPECT_EQ(Status().nodes.ready, 3);
  EXPECT_TRUE(world_.HasEvent("InvalidSpec"));
  EXPECT_EQ(specs(), before);
  // And nobody else takes its nodes.
  world_.Apply("other", R"({"priority": 100})");
  world_.Settle();
  EXPECT_EQ(world_.Proxy("n1")->spec.configuration, "main");
}

TEST_F(PlanTest, TheHighestPriorityWinsThenTheOldest) {
  AddNodes(3);
  world_.SetLabels("n3", {{"pool", "a"}});
  world_.Apply("old", kNoCanary);
  world_.Advance(seconds(10));
  world_.Apply("new", kNoCanary);
  world_.Apply("pool", R"({"priority": 5, "nodeSelector": {"matchLabels": {"pool": "a"}},
                           "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(world_.Proxy("n1")->spec.configuration, "old");
  EXPECT_EQ(world_.Proxy("n3")->spec.configuration, "pool");
  EXPECT_EQ(Status("old").nodes.desired, 2);
  EXPECT_THAT(Message("Available", "old"), HasSubstr("pool (1 node)"));
  EXPECT_TRUE(True("Available", "old"));
  EXPECT_EQ(Reason("Available", "new"), "Superseded");
  EXPECT_THAT(Message("Available", "new"),
              AllOf(HasSubstr("all 3 nodes"), HasSubstr("old (2 nodes)"), HasSubstr("pool (1")));
  EXPECT_TRUE(True("Accepted", "new"));
  EXPECT_TRUE(world_.HasEvent("Superseded"));
  // Revisions are never the same number twice.
  std::set<int64_t> numbers;
  for (const auto& [name, revision] : world_.revisions)
    numbers.insert(revision.number);
  EXPECT_EQ(numbers.size(), 3U);
}

TEST_F(PlanTest, DeletionHandsNodesToTheNextOrRemovesThem) {
  AddNodes(4);
  world_.SetLabels("n4", {{"pool", "a"}});
  world_.Apply("pool", R"({"mode": "iptables", "nodeSelector": {"matchLabels": {"pool": "a"}},
                           "rollout": {"canary": {"nodes": 0}}})");
  world_.Apply("main", R"({"priority": 1, "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().nodes.desired, 4);
  world_.Delete("main");
  world_.Settle([&] { EXPECT_LE(world_.InTransition(), 2U); });  // one of each configuration
  EXPECT_FALSE(world_.configurations.contains("main"));
  EXPECT_EQ(world_.proxies.size(), 1U);
  EXPECT_EQ(world_.Proxy("n4")->spec.configuration, "pool");
  EXPECT_EQ(world_.Proxy("n4")->status.active_mode, "iptables");
  EXPECT_TRUE(world_.HasEvent("NodeRemoved"));
}

TEST_F(PlanTest, RemovalTakesOneNodeAtATime) {
  AddNodes(5);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  world_.Delete("main");
  world_.Settle([&] { EXPECT_LE(world_.InTransition(), 1U); });
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_TRUE(world_.proxies.empty());
}

TEST_F(PlanTest, AnUnreachableNodeDoesNotKeepADeletionForEver) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  world_.SetDead("n1", true);
  world_.Delete("main");
  for (int i = 0; i < 10; ++i)
    Round();
  EXPECT_TRUE(world_.configurations.contains("main"));
  EXPECT_EQ(Status().phase, "Removing");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_TRUE(world_.HasEvent("NodeNotCleaned"));
}

TEST_F(PlanTest, AnInvalidConfigurationCanBeDeleted) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  world_.Apply("main", R"({"mode": "x"})");
  world_.Settle();
  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_TRUE(world_.proxies.empty());
}

TEST_F(PlanTest, NodesComeGoAndChangeTheirLabels) {
  AddNodes(3);
  for (const char* node : {"n1", "n2", "n3"})
    world_.SetLabels(node, {{"pool", "a"}});
  world_.Apply("main", R"({"nodeSelector": {"matchLabels": {"pool": "a"}},
                           "rollout": {"canary": {"nodes": 0}}})");
  for (int i = 0; i < 4; ++i)
    Round();
  world_.AddNode("n4", {{"pool", "a"}});
  world_.AddNode("n5");
  world_.RemoveNode("n1");
  world_.Settle();
  EXPECT_EQ(Status().nodes.desired, 3);
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(world_.Proxy("n5"), nullptr);
  world_.SetLabels("n2", {});
  world_.SetLabels("n5", {{"pool", "a"}});
  world_.Settle();
  EXPECT_EQ(world_.Proxy("n2"), nullptr);
  EXPECT_EQ(world_.Proxy("n5")->status.active_mode, "ipvs");
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(PlanTest, ANodeMadeAnewUnderItsOldNameGetsItsOwnNodeProxy) {
  AddNodes(1);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  const std::string old_uid = world_.Proxy("n1")->uid;
  const auto left_behind = world_.proxies["n1"];
  world_.RemoveNode("n1");
  world_.AddNode("n1");
  world_.proxies["n1"] = left_behind;
  const Plan plan = world_.MakePlan();
  ASSERT_EQ(plan.orphans.size(), 1U);
  EXPECT_EQ(plan.orphans[0].kind, NodeProxyChange::Kind::kDelete);
  EXPECT_EQ(plan.orphans[0].uid, old_uid);
  world_.proxies.erase("n1");
  world_.Settle();
  EXPECT_NE(world_.Proxy("n1")->uid, old_uid);
}

TEST_F(PlanTest, ANodeProxyThatWasEditedByHandIsPutRight) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  auto edited = std::make_shared<kube::NodeProxy>(*world_.proxies["n1"]);
  edited->spec.settings.ipvs.scheduler = "sh";
  world_.proxies["n1"] = edited;
  world_.Settle();
  EXPECT_EQ(world_.Proxy("n1")->spec.settings.ipvs.scheduler, "rr");
  // One that was deleted by hand comes back, and asks for nothing before its agent has answered.
  world_.proxies.erase("n2");
  world_.Perform(world_.MakePlan());
  EXPECT_EQ(world_.Proxy("n2")->spec.revision, 0);
  EXPECT_FALSE(world_.Proxy("n2")->spec.removed);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(PlanTest, OneBrokenNodeDoesNotKeepNewNodesOut) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  auto broken = std::make_shared<kube::NodeProxy>(*world_.proxies["n1"]);
  kube::SetCondition(broken->status.conditions,
                     {"Ready", ConditionStatus::kFalse, "SyncFailed", "no memory", "", 1},
                     kube::FormatTime(world_.now));
  world_.proxies["n1"] = broken;
  world_.agents["n1"].alive = false;
  world_.AddNode("n3");
  world_.Settle();
  EXPECT_EQ(world_.Proxy("n3")->status.active_mode, "ipvs");
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
  EXPECT_THAT(Message("Degraded"), HasSubstr("no memory"));
}

TEST_F(PlanTest, SelectingNothingIsSaid) {
  AddNodes(1);
  world_.Apply("main", R"({"nodeSelector": {"matchLabels": {"no": "such"}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Pending");
  EXPECT_EQ(Reason("Available"), "NoNodesSelected");
}

TEST(NodeListTest, NamesAtMostTen) {
  std::vector<std::string> names;
  names.reserve(12);
  for (int i = 0; i < 12; ++i)
    names.push_back("n" + std::to_string(i));
  EXPECT_EQ(NodeList(names), "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more");
  EXPECT_EQ(NodeList({"a"}), "a");
}

TEST(RevisionTest, WritesAndReadsBack) {
  kube::ProxyConfiguration configuration;
  configuration.name = "main";
  configuration.uid = "u1";
  kube::ProxySettings settings;
  settings.mode = kube::Mode::kIpvs;
  const Revision revision = MakeRevision(configuration, settings, 4);
  EXPECT_EQ(RevisionFromJson(ToJson(revision, "ns")), revision);
  configuration.uid = "u2";
  EXPECT_NE(MakeRevision(configuration, settings, 4).name, revision.name);
  EXPECT_THROW(RevisionFromJson({{"revision", 0}}), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::op
