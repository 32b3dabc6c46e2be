// Nodes that are not Ready: those that nobody serves yet, and those whose agents are gone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/plan/plan_fixture.h"

namespace pointsman::op {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

using NewNodesTest = PlanTest;

// Nothing serves the API server's Service address there, so its CNI never comes up, so it is not
// Ready: until its agent has been given its turn.
TEST_F(NewNodesTest, ANewNodeThatIsNotReadyBeforeItIsServedIsServed) {
  AddNodes(2);
  world_.Apply("main");
  world_.Settle();
  ASSERT_EQ(Status().phase, "Complete");
  world_.AddBareNode("new-1");
  const kube::TimePoint before = world_.now;
  for (int i = 0; i < 4; ++i)
    Round();
  EXPECT_EQ(world_.Proxy("new-1")->status.active_mode, "ipvs");
  EXPECT_TRUE(world_.nodes.at("new-1")->ready);
  EXPECT_EQ(world_.now, before) << "nothing is waited for";
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes.updated, 3);
}

// No node is Ready before it is served. The canary is served first; the others have nothing to
// lose, so maxUnavailable does not hold them up.
TEST_F(NewNodesTest, AWholeNewClusterOfNodesThatAreNotReadyIsServed) {
  for (int i = 1; i <= 30; ++i)
    world_.AddBareNode("n" + std::to_string(i));
  world_.Apply("main", R"({"rollout": {"maxUnavailable": 1, "minReady": "10s",
                           "canary": {"nodes": 1, "soak": "60s"}}})");
  const kube::TimePoint before = world_.now;
  for (int i = 0; i < 6; ++i)
    Round();
  EXPECT_EQ(AtRevision(1), 1);
  EXPECT_EQ(Status().phase, "Canary");
  world_.Advance(seconds(71));
  for (int i = 0; i < 3; ++i)
    Round();
  EXPECT_EQ(AtRevision(1), 30);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes, (kube::NodeCounts{30, 30, 30, 0, 0}));
  EXPECT_FALSE(True("Degraded"));
  EXPECT_LT(world_.now - before, minutes(3));
  for (const auto& [name, node] : world_.nodes)
    EXPECT_TRUE(node->ready) << name;
}

TEST_F(NewNodesTest, ANewClustersDeadNodesHoldUpNobody) {
  for (const char* name : {"n1", "n2", "n3", "n4"})
    world_.AddBareNode(name);
  world_.agents["n1"].alive = false;  // never answers
  world_.Apply("main", R"({"rollout": {"maxUnavailable": 1, "canary": {"nodes": 1}}})");
  for (int i = 0; i < 3; ++i)
    world_.Perform(world_.MakePlan());
  for (const char* name : {"n2", "n3", "n4"})
    world_.StepAgent(name);
  world_.Perform(world_.MakePlan());
  ASSERT_EQ(world_.Proxy("n2")->spec.revision, 1) << "the canary";
  world_.agents["n2"].alive = false;  // dies when it has been asked to begin
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes.updated, 2);
  EXPECT_EQ(Reason("Degraded"), "NodesUnreachable");
  EXPECT_THAT(Message("Degraded"), AllOf(HasSubstr("n1"), HasSubstr("n2")));
  EXPECT_FALSE(True("RolledBack"));
}

// kube-proxy may serve there, whatever made it NotReady: it takes its turn, as the last.
TEST_F(NewNodesTest, ANodeThatTurnedNotReadyIsServedWithinMaxUnavailable) {
  AddNodes(6);
  for (const char* name : {"n1", "n2", "n3"})
    world_.SetReady(name, false);
  world_.Apply("main", kNoCanary);
  std::vector<std::string> order;
  world_.Settle([&] {
    EXPECT_LE(world_.InTransition(), 1U);
    for (const auto& [name, proxy] : world_.proxies) {
      const bool there = std::find(order.begin(), order.end(), name) != order.end();
      if (proxy->spec.revision == 1 && !there) order.push_back(name);
    }
  });
  EXPECT_EQ(Status().nodes.updated, 6);
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(order, (std::vector<std::string>{"n4", "n5", "n6", "n1", "n2", "n3"}));
}

// What made the nodes NotReady may be what the new revision mends.
TEST_F(NewNodesTest, NodesThatABadRevisionMadeNotReadyGetTheNextOne) {
  AddNodes(3);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  for (const char* name : {"n1", "n2", "n3"})
    world_.SetReady(name, false);
  world_.Apply("main", R"({"ipvs": {"scheduler": "lc"}, "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle([&] { EXPECT_LE(world_.InTransition(), 1U); });
  EXPECT_EQ(AtRevision(2), 3);
  EXPECT_EQ(Status().phase, "Complete");
}

// Its agent has answered, and then its kubelet fell silent: nobody waits for it to come back.
TEST_F(NewNodesTest, ANodeWhoseKubeletFellSilentIsNotBegunWith) {
  AddNodes(3);
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "paused": true}})");
  world_.Settle();
  ASSERT_TRUE(world_.Proxy("n1")->status.candidate);
  world_.SetDead("n1", true, /*silent=*/true);
  const kube::TimePoint before = world_.now;
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(world_.Proxy("n1")->spec.revision, 0);
  EXPECT_EQ(Status().nodes.updated, 2);
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_LT(world_.now - before, minutes(2));
  world_.SetDead("n1", false);
  world_.Settle();
  EXPECT_EQ(Status().nodes.updated, 3);
}

TEST_F(NewNodesTest, ANodeThatTurnsNotReadyInTheMiddleGoesOn) {
  AddNodes(3);
  world_.Apply("main", kNoCanary);
  while (world_.InTransition() == 0) {
    world_.Perform(world_.MakePlan());
    if (world_.InTransition() == 0) world_.StepAgents();
  }
  world_.SetReady("n1", false);
  world_.Settle([&] { EXPECT_LE(world_.InTransition(), 1U); });
  EXPECT_EQ(Status().nodes.updated, 3);
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_FALSE(True("Degraded"));
}

// Its word counts as that of any other node: the revision is bad, and the others are spared.
TEST_F(NewNodesTest, ANodeThatIsNotReadyFailsARevisionByItsAgentsWord) {
  for (const char* name : {"n1", "n2", "n3"})
    world_.AddBareNode(name);
  world_.agents["n1"].fails = {1};
  world_.Apply("main");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
  EXPECT_THAT(Message("Degraded"), AllOf(HasSubstr("n1"), HasSubstr("a probe failed")));
  EXPECT_EQ(AtRevision(1), 1);
}

// A rollout that stands, for whatever reason, does not keep a new node from being served.
TEST_F(NewNodesTest, ANewNodeGetsTheLastGoodRevisionWhileARolloutStands) {
  AddNodes(2);
  world_.Apply("main", R"({"mode": "iptables"})");
  world_.Settle();
  world_.Apply("main", R"({"rollout": {"paused": true}})");
  world_.Settle();
  world_.AddBareNode("n3");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Paused");
  EXPECT_EQ(world_.Proxy("n3")->spec.revision, 1);
  EXPECT_EQ(world_.Proxy("n3")->status.active_mode, "iptables");
  EXPECT_TRUE(world_.nodes.at("n3")->ready);

  world_.agents["n1"].fails = {2};
  world_.Apply("main", R"({"rollout": {"onFailure": "Pause", "canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
  world_.AddBareNode("n4");
  world_.agents["n4"].can_run = {kube::Mode::kIptables};
  world_.Settle();
  EXPECT_EQ(world_.Proxy("n4")->spec.revision, 1);
  EXPECT_TRUE(world_.nodes.at("n4")->ready);

  // And then they take part as the others do.
  world_.agents["n1"].fails = {};
  world_.Settle();
  EXPECT_EQ(AtRevision(2), 4);
  EXPECT_EQ(Status().phase, "Complete");
  // Also where nothing but the pause is left of a rollout.
  world_.Apply("main", R"({"rollout": {"paused": true}})");
  world_.Settle();
  world_.AddBareNode("n5");
  world_.Settle();
  EXPECT_TRUE(world_.nodes.at("n5")->ready);
}

}  // namespace
}  // namespace pointsman::op
