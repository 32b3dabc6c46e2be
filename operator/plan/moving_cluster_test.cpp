// Rollouts while the cluster and the specifications change under them: nodes that are relabelled,
// die, are drained, renamed or scaled away, configurations that come, go and change their priority,
// and the way back to an earlier revision, each in the middle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/plan/plan_fixture.h"

namespace pointsman::op {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr const char* kIptables = R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})";

class MovingClusterTest : public PlanTest {
 protected:
  // All nodes run revision 1 (iptables), and so many of them are asked to run 2 (ipvs), of which
  // the last is still changing.
  void Begin(int nodes, int64_t asked, const std::string& spec = kNoCanary) {
    AddNodes(nodes);
    world_.Apply("main", kIptables);
    world_.Settle();
    ASSERT_EQ(AtRevision(1), nodes);
    world_.after_write = [this] { EXPECT_LE(TakenAway(), most_); };
    world_.Apply("main", spec);
    Until(asked);
  }
  void Until(int64_t asked) {
    for (int round = 0; round < 200; ++round) {
      world_.Perform(world_.MakePlan());
      if (AtRevision(2) >= asked) return;
      world_.StepAgents();
    }
    FAIL() << AtRevision(2) << " nodes were asked, and not " << asked;
  }
  // Nodes that serve, are alive and were asked to change. One that died is waited for until its
  // deadline, and a new one has nothing to lose.
  size_t TakenAway() const {
    size_t count = 0;
    for (const auto& [name, proxy] : world_.proxies) {
      const bool serves = !proxy->status.active_mode.empty() && world_.agents.at(name).alive;
      const bool changing =
          proxy->spec.removed ||
          (proxy->spec.revision > 0 && proxy->status.observed_revision != proxy->spec.revision);
      if (serves && changing) ++count;
    }
    return count;
  }
  std::string Changing() const {
    for (const auto& [name, proxy] : world_.proxies) {
      if (proxy->spec.revision == 2 && proxy->status.observed_revision != 2) return name;
    }
    return "";
  }
  std::set<std::string> At(int64_t revision) const {
    std::set<std::string> names;
    for (const auto& [name, proxy] : world_.proxies) {
      if (proxy->spec.revision == revision) names.insert(name);
    }
    return names;
  }
  void ExpectComplete(const std::string& mode, int64_t nodes) {
    EXPECT_EQ(Status().phase, "Complete");
    EXPECT_EQ(Status().nodes.desired, nodes);
    EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{mode, nodes}}));
    EXPECT_EQ(world_.proxies.size(), static_cast<size_t>(nodes));
  }
  size_t most_ = 1;
};

TEST_F(MovingClusterTest, RollbackToInTheMiddleTurnsTheRolloutRound) {
  Begin(6, 3);
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "rollbackTo": 1}})");
  world_.Settle();
  ExpectComplete("iptables", 6);
  EXPECT_EQ(AtRevision(1), 6);
  EXPECT_EQ(Status().update_revision, 1);
  EXPECT_FALSE(True("RolledBack")) << "it was asked for, and nothing failed";
  // Taken back, what the specification says counts again.
  world_.Apply("main", kNoCanary);
  world_.Settle();
  ExpectComplete("ipvs", 6);
  EXPECT_EQ(AtRevision(2), 6);
}

TEST_F(MovingClusterTest, RollbackToWhereverARolloutWasRolledBack) {
  Begin(4, 2);
  world_.agents[Changing()].fails = {2};
  world_.Settle();
  ASSERT_EQ(Status().phase, "RolledBack");
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "rollbackTo": 2}})");
  for (auto& [name, agent] : world_.agents)
    agent.fails.clear();
  world_.Settle();
  ExpectComplete("ipvs", 4);
}

TEST_F(MovingClusterTest, RollbackToAFailingRevisionStopsThere) {
  Begin(4, 4);
  world_.Settle();
  ExpectComplete("ipvs", 4);
  world_.agents["n3"].fails = {1};
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "rollbackTo": 1}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "RolledBack") << "to the last that was good, which is 2";
  EXPECT_EQ(AtRevision(2), 4);
  EXPECT_THAT(Message("RolledBack"), HasSubstr("n3"));
}

TEST_F(MovingClusterTest, RollbackToWhatIsNotKeptLeavesEveryNodeWhereItIs) {
  Begin(4, 2);
  const auto updated = At(2);
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "rollbackTo": 9}})");
  world_.Settle();
  EXPECT_EQ(Reason("Accepted"), "RevisionNotFound");
  EXPECT_EQ(At(2), updated);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  ExpectComplete("ipvs", 4);
}

class PriorityTest : public MovingClusterTest {
 protected:
  static std::string Pool(int priority) {
    return R"({"mode": "ipvs", "ipvs": {"scheduler": "lc"}, "priority": )" +
           std::to_string(priority) +
           R"(, "nodeSelector": {"matchLabels": {"pool": "a"}}, "rollout": {"canary": {"nodes": 0}}})";
  }
  void SetUp() override {
    most_ = 2;  // one of each
    Begin(6, 3);
    for (const char* name : {"n2", "n5", "n6"})
      world_.SetLabels(name, {{"pool", "a"}});
  }
  void ExpectPool() {
    EXPECT_EQ(Status("pool").phase, "Complete");
    EXPECT_EQ(Status("pool").nodes.desired, 3);
    EXPECT_EQ(Status().phase, "Complete");
    EXPECT_EQ(Status().nodes.desired, 3);
    for (const char* name : {"n2", "n5", "n6"}) {
      EXPECT_EQ(world_.Proxy(name)->spec.configuration, "pool") << name;
      EXPECT_EQ(world_.Proxy(name)->spec.settings.ipvs.scheduler, "lc") << name;
    }
  }
};

TEST_F(PriorityTest, AHigherOneThatComesInTheMiddleTakesItsNodes) {
  world_.Apply("pool", Pool(5));
  world_.Settle();
  ExpectPool();
  world_.Delete("pool");
  world_.Settle();
  ExpectComplete("ipvs", 6);
}

TEST_F(PriorityTest, OneThatIsRaisedOrLoweredInTheMiddleTakesThemAndGivesThemBack) {
  world_.Apply("pool", Pool(-5));
  for (int i = 0; i < 2; ++i)
    Round();
  EXPECT_EQ(Reason("Available", "pool"), "Superseded");
  world_.Apply("pool", Pool(5));
  for (int i = 0; i < 3; ++i)
    Round();
  world_.Apply("pool", Pool(-5));
  for (int i = 0; i < 2; ++i)
    Round();
  world_.Apply("pool", Pool(5));
  world_.Settle();
  ExpectPool();
  world_.Apply("pool", Pool(-5));
  world_.Settle();
  ExpectComplete("ipvs", 6);
  EXPECT_EQ(Status("pool").nodes.desired, 0);
}

TEST_F(PriorityTest, OneThatIsInvalidInTheMiddleKeepsItsNodesAsTheyAre) {
  world_.Apply("pool", Pool(5));
  for (int i = 0; i < 4; ++i)
    Round();
  world_.Apply("pool", R"({"mode": "x", "priority": 5,
                           "nodeSelector": {"matchLabels": {"pool": "a"}}})");
  world_.Settle();
  EXPECT_EQ(Status("pool").phase, "Rejected");
  EXPECT_EQ(Status().phase, "Complete") << "the others' rollout goes on";
  world_.Apply("pool", Pool(5));
  world_.Settle();
  ExpectPool();
}

TEST_F(MovingClusterTest, ANodeThatIsRelabelledWhileItChangesLeavesAndMakesRoom) {
  AddNodes(5);
  for (const auto& [name, node] : std::map(world_.nodes))
    world_.SetLabels(name, {{"pool", "a"}});
  const std::string selector = R"("nodeSelector": {"matchLabels": {"pool": "a"}})";
  world_.Apply("main",
               R"({"mode": "iptables", )" + selector + R"(, "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  world_.Apply("main",
               "{" + selector + R"(, "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})");
  Until(2);
  const std::string node = Changing();
  ASSERT_NE(node, "");
  world_.SetLabels(node, {{"pool", "b"}});
  // Its agent is slow, and does not hold up the others for ever.
  world_.agents[node].alive = false;
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes.desired, 4);
  EXPECT_EQ(Status().nodes.updated, 4);
  world_.agents[node].alive = true;
  world_.Settle();
  EXPECT_EQ(world_.Proxy(node), nullptr);
  // And back.
  world_.SetLabels(node, {{"pool", "a"}});
  world_.Settle();
  ExpectComplete("ipvs", 5);
}

TEST_F(MovingClusterTest, ACanaryThatDiesIsReplaced) {
  Begin(4, 1, R"({"rollout": {"canary": {"nodes": 1, "soak": "60s"}}})");
  const std::string canary = Changing();
  world_.SetDead(canary, true, /*silent=*/true);
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_EQ(AtRevision(2), 1) << "it may come back";
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes.updated, 3);
  world_.SetDead(canary, false);
  world_.Settle();
  ExpectComplete("ipvs", 4);
}

// kubectl drain leaves the agent, which a DaemonSet runs, until the machine is switched off.
TEST_F(MovingClusterTest, ANodeThatIsDrainedAndRebootedInTheMiddleGoesOn) {
  Begin(4, 2);
  const std::string node = Changing();
  world_.StepAgent(node);
  world_.SetReady(node, false);
  for (int i = 0; i < 6; ++i)
    Round();
  world_.SetDead(node, true, /*silent=*/true);
  for (int i = 0; i < 6; ++i)
    Round();
  world_.SetDead(node, false);
  world_.Settle();
  ExpectComplete("ipvs", 4);
  EXPECT_FALSE(True("RolledBack"));
}

TEST_F(MovingClusterTest, NodesThatAreScaledAwayInTheMiddleAreNotMissed) {
  Begin(6, 3);
  // The one that is changing, one that is done and one that is to come.
  const std::string changing = Changing();
  std::set<std::string> updated = At(2);
  updated.erase(changing);
  const std::string done = *updated.begin();
  const std::set<std::string> before = At(1);
  const std::string to_come = *before.begin();
  for (const std::string& name : {changing, done, to_come})
    world_.RemoveNode(name);
  world_.Settle();
  ExpectComplete("ipvs", 3);
  world_.AddBareNode("n7");
  world_.AddNode("n8");
  world_.Settle();
  ExpectComplete("ipvs", 5);
}

TEST_F(MovingClusterTest, AllCanariesThatAreScaledAwayAreReplaced) {
  Begin(5, 1, R"({"rollout": {"canary": {"nodes": 1, "soak": "60s"}}})");
  world_.RemoveNode(Changing());
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_EQ(AtRevision(2), 1) << "another is the canary, and soaks";
  EXPECT_EQ(Status().phase, "Canary");
  world_.Settle();
  ExpectComplete("ipvs", 4);
}

// A machine that registers anew under another name, with what is in its kernel.
TEST_F(MovingClusterTest, ANodeThatIsRenamedInTheMiddleIsANewOne) {
  Begin(4, 2);
  const std::string node = Changing();
  const FakeAgent agent = world_.agents[node];
  world_.RemoveNode(node);
  world_.AddNode("renamed");
  world_.agents["renamed"] = agent;
  world_.Settle();
  ExpectComplete("ipvs", 4);
  EXPECT_EQ(world_.Proxy(node), nullptr);
  EXPECT_EQ(world_.Proxy("renamed")->status.active_mode, "ipvs");
}

TEST_F(MovingClusterTest, TheOldNameOfARenamedNodeMayStayForAWhile) {
  Begin(4, 2);
  const std::string node = Changing();
  world_.SetDead(node, true, /*silent=*/true);
  world_.AddNode("renamed");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status().nodes.updated, 4);
  EXPECT_EQ(Reason("Degraded"), "NodesUnreachable");
  world_.RemoveNode(node);
  world_.Settle();
  ExpectComplete("ipvs", 4);
  EXPECT_FALSE(True("Degraded"));
}

// What stopped the rollout is gone with its node: the others go on.
TEST_F(MovingClusterTest, ANodeWithATrippedGateThatIsScaledAwayStopsNothing) {
  most_ = 2;
  AddNodes(4);
  world_.Apply("main", kIptables);
  world_.Settle();
  world_.agents["n2"].impacts[2] = {.cut_connections = 2000};
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "onFailure": "Pause"}})");
  world_.Settle();
  ASSERT_EQ(Reason("Degraded"), "GateTripped");
  ASSERT_LT(AtRevision(2), 4);
  world_.RemoveNode("n2");
  world_.Settle();
  ExpectComplete("ipvs", 3);
  EXPECT_TRUE(Status().tripped_gates.empty());
}

// The same with the whole rollout rolled back, and nodes that come and go meanwhile.
TEST_F(MovingClusterTest, ARollbackFromAGateReachesNodesThatComeAndGo) {
  AddNodes(5);
  world_.Apply("main", kIptables);
  world_.Settle();
  world_.agents["n3"].impacts[2] = {.cut_connections = 2000};
  world_.Apply("main", kNoCanary);
  for (int i = 0; i < 200 && !True("RolledBack"); ++i)
    Round();
  ASSERT_TRUE(True("RolledBack"));
  world_.RemoveNode("n1");
  world_.RemoveNode("n3");
  world_.AddNode("n6");
  world_.AddBareNode("n7");
  world_.Settle();
  EXPECT_EQ(Status().phase, "RolledBack");
  EXPECT_EQ(AtRevision(1), 5);
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"iptables", 5}}));
  ASSERT_EQ(Status().tripped_gates.size(), 1U) << "what led to it stays said";
  EXPECT_EQ(Status().tripped_gates[0].node, "n3");
}

}  // namespace
}  // namespace pointsman::op
