// spec.rollout.gates: which figures trip one, and what becomes of the rollout then.
#include "operator/plan/gates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/plan/plan_fixture.h"

namespace pointsman::op {
namespace {

using kube::ChangeImpact;
using kube::RolloutGates;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string Gate(const ChangeImpact& impact, const RolloutGates& gates = {},
                 int64_t services = 100) {
  const auto tripped = Trips(impact, services, gates);
  return tripped ? tripped->gate : "";
}

ChangeImpact Connections(int64_t before, int64_t failed_before, int64_t after,
                         int64_t failed_after) {
  return {.connections_before = before,
          .failed_before = failed_before,
          .connections_after = after,
          .failed_after = failed_after};
}

RolloutGates Percent(int64_t percent) {
  RolloutGates gates;
  gates.failed_connections = percent;
  return gates;
}

TEST(GatesTest, FailedConnectionsBeyondTheBoundTrip) {
  EXPECT_EQ(Gate(Connections(1000, 0, 2000, 101)), "") << "5% more than nothing is the bound";
  EXPECT_EQ(Gate(Connections(1000, 0, 2000, 110)), "failedConnections");
  EXPECT_EQ(Gate(Connections(1000, 100, 2000, 300)), "") << "10% failed anyway";
  EXPECT_EQ(Gate(Connections(1000, 100, 2000, 320)), "failedConnections");
  EXPECT_EQ(Gate(Connections(1000, 0, 2000, 110), Percent(50)), "");
  EXPECT_EQ(Gate(Connections(1000, 0, 1000, 1000), Percent(50)), "failedConnections");
  RolloutGates off;
  off.failed_connections.reset();
  EXPECT_EQ(Gate(Connections(1000, 0, 2000, 2000), off), "");
  EXPECT_THAT(Describe(*Trips(Connections(40, 1, 200, 60), 1, {})),
              AllOf(HasSubstr("60 of 200 new connections failed, before the change 1 of 40"),
                    HasSubstr("the bound is 5%")));
}

TEST(GatesTest, AFewFailedConnectionsAreNoise) {
  EXPECT_EQ(Gate(Connections(20, 0, 40, 9)), "") << "fewer than ten";
  EXPECT_EQ(Gate(Connections(10'000, 0, 20'000, 9), Percent(0)), "");
  EXPECT_EQ(Gate(Connections(10'000, 0, 20'000, 40), Percent(0)), "failedConnections");
  EXPECT_EQ(Gate(Connections(3, 0, 60, 13)), "") << "of three nobody knows how many fail anyway";
  EXPECT_EQ(Gate(Connections(100, 10, 100, 24)), "") << "10 and 24 of 100 can be chance";
  EXPECT_EQ(Gate(Connections(100, 50, 100, 70)), "");
  EXPECT_EQ(Gate(Connections(0, 0, 100, 100)), "") << "nobody was answered before";
}

TEST(GatesTest, SyncLatencyTripsUnlessItWasSoBefore) {
  EXPECT_EQ(Gate({.sync_after = 10'000}), "");
  EXPECT_EQ(Gate({.sync_after = 20'000}), "syncLatency");
  EXPECT_EQ(Gate({.sync_before = 5, .sync_after = 20'000}), "syncLatency");
  EXPECT_EQ(Gate({.sync_before = 20'000, .sync_after = 20'000}), "");
  EXPECT_EQ(Gate({.sync_before = 20'000, .sync_after = 50'000}), "syncLatency");
  EXPECT_EQ(Gate({.sync_before = 20'000}), "") << "not measured since";
  RolloutGates tight;
  tight.sync_latency = milliseconds(100);
  EXPECT_EQ(Gate({.sync_before = 1, .sync_after = 200}, tight), "syncLatency");
  EXPECT_THAT(Describe(*Trips({.sync_before = 1, .sync_after = 200}, 1, tight)),
              HasSubstr("a change takes 200 ms to the kernel, before 1 ms; the bound is 100ms"));
  tight.sync_latency.reset();
  EXPECT_EQ(Gate({.sync_after = 1'000'000}, tight), "");
}

TEST(GatesTest, RefusedServicesAreComparedWithBefore) {
  RolloutGates none;
  none.refused_services = kube::IntOrPercent{0, false};
  EXPECT_EQ(Gate({.refused_before = 3, .refused_after = 3}, none), "");
  EXPECT_EQ(Gate({.refused_before = 3, .refused_after = 1}, none), "");
  EXPECT_EQ(Gate({.refused_before = 3, .refused_after = 4}, none), "refusedServices");
  EXPECT_EQ(Gate({.refused_after = 4}, none), "") << "nothing to compare with";
  none.refused_services.reset();
  EXPECT_EQ(Gate({.refused_before = 0, .refused_after = 3000}, none), "");
}

// Whoever may write a Service must not be able to stop a rollout with one.
TEST(GatesTest, ByDefaultAFewServicesStopNothing) {
  EXPECT_EQ(Gate({.refused_before = 0, .refused_after = 10}, {}, 20), "");
  EXPECT_EQ(Gate({.refused_before = 0, .refused_after = 11}, {}, 20), "refusedServices");
  EXPECT_EQ(Gate({.refused_before = 7, .refused_after = 57}, {}, 1000), "");
  EXPECT_EQ(Gate({.refused_before = 7, .refused_after = 58}, {}, 1000), "refusedServices");
}

TEST(GatesTest, CutConnectionsAreCounted) {
  EXPECT_EQ(Gate({.cut_connections = 1000}), "");
  EXPECT_EQ(Gate({.cut_connections = 1001}), "cutConnections");
  RolloutGates none;
  none.cut_connections = 0;
  EXPECT_EQ(Gate({.cut_connections = 0}, none), "");
  EXPECT_EQ(Gate({.cut_connections = 1}, none), "cutConnections");
  none.cut_connections.reset();
  EXPECT_EQ(Gate({.cut_connections = 1'000'000}, none), "");
}

// What the API server lets a node write, and what a decoder of ours would never let through.
TEST(GatesTest, FiguresThatMakeNoSenseAreNone) {
  EXPECT_EQ(Gate({}), "");
  EXPECT_EQ(Gate(Connections(10, 20, 1000, 900)), "") << "more failed than there were";
  EXPECT_EQ(Gate(Connections(1000, 0, 10, 900)), "");
  for (const int64_t odd : {INT64_MIN, int64_t{-1}, INT64_MAX, int64_t{1} << 53}) {
    ChangeImpact impact;
    for (const auto& [name, member] : kube::kImpactFigures)
      impact.*member = odd;
    Trips(impact, odd, {});  // whatever it says
    RolloutGates strict{.failed_connections = 0,
                        .sync_latency = seconds(0),
                        .refused_services = kube::IntOrPercent{0, false},
                        .cut_connections = 0};
    const auto tripped = Trips(impact, odd, strict);
    EXPECT_EQ(tripped.has_value(), odd == int64_t{1} << 53) << odd;
  }
  EXPECT_EQ(Gate({.refused_before = INT64_MIN, .refused_after = INT64_MAX}), "")
      << "their difference is no number";
}

class GatePlanTest : public PlanTest {
 protected:
  void SetUp() override {
    AddNodes(4);
    world_.Apply("main", R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})");
    world_.Settle();
    ASSERT_EQ(Status().phase, "Complete");
  }
  // The revision that follows is the second.
  void Do(const std::string& node, const ChangeImpact& impact) {
    world_.agents[node].impacts[2] = impact;
  }
  void ExpectRolledBack(const std::string& node, const std::string& gate) {
    EXPECT_EQ(Status().phase, "RolledBack");
    EXPECT_EQ(AtRevision(1), 4);
    EXPECT_EQ(Reason("RolledBack"), "GateTripped");
    EXPECT_THAT(Message("RolledBack"), AllOf(HasSubstr("revision 2 failed on " + node),
                                             HasSubstr("gate " + gate), HasSubstr("bound")));
    ASSERT_EQ(Status().tripped_gates.size(), 1U);
    EXPECT_EQ(Status().tripped_gates[0].gate, gate);
    EXPECT_EQ(Status().tripped_gates[0].node, node);
    EXPECT_EQ(Status().tripped_gates[0].revision, 2);
    EXPECT_TRUE(world_.HasEvent("GateTripped"));
    EXPECT_TRUE(world_.HasEvent("RollingBack"));
  }
};

TEST_F(GatePlanTest, EachGateRollsBackAndSaysWhichNodeAndFigure) {
  const std::pair<const char*, ChangeImpact> harms[] = {
      {"failedConnections", Connections(1000, 0, 1000, 200)},
      {"syncLatency", {.sync_before = 5, .sync_after = 50'000}},
      {"refusedServices", {.refused_before = 1, .refused_after = 20}},
      {"cutConnections", {.cut_connections = 2000}}};
  for (const auto& [gate, impact] : harms) {
    SCOPED_TRACE(gate);
    world_ = FakeWorld();
    SetUp();
    Do("n2", impact);
    world_.Apply("main", kNoCanary);
    world_.Settle([&] { EXPECT_LE(world_.InTransition(), 1U); });
    ExpectRolledBack("n2", gate);
    // It is not tried again by itself, nor by another operator.
    world_.Advance(minutes(60));
    world_.ChangeLeader();
    world_.Settle();
    ExpectRolledBack("n2", gate);
  }
}

TEST_F(GatePlanTest, AnEditIsANewTry) {
  Do("n1", {.cut_connections = 2000});
  world_.Apply("main", kNoCanary);
  world_.Settle();
  ExpectRolledBack("n1", "cutConnections");
  world_.Apply("main",
               R"({"rollout": {"canary": {"nodes": 0}, "gates": {"cutConnections": 3000}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(AtRevision(2), 4);
  EXPECT_THAT(Status().tripped_gates, IsEmpty());
  EXPECT_FALSE(True("RolledBack"));
}

TEST_F(GatePlanTest, WithPauseItStopsAndGoesOnWhenTheBoundIsRaised) {
  Do("n1", {.refused_before = 0, .refused_after = 7});
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "onFailure": "Pause",
                                       "gates": {"refusedServices": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason("Degraded"), "GateTripped");
  EXPECT_THAT(Message("Degraded"),
              AllOf(HasSubstr("n1 (gate refusedServices: 7 Services are not served as specified, "
                              "before 0; the bound is 0 more)"),
                    HasSubstr("spec.rollout.gates")));
  EXPECT_EQ(AtRevision(2), 1);
  ASSERT_EQ(Status().tripped_gates.size(), 1U);
  world_.ChangeLeader();
  world_.Settle();
  EXPECT_EQ(AtRevision(2), 1) << "another operator does not go on either";
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "onFailure": "Pause",
                                       "gates": {"refusedServices": "Unlimited"}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_THAT(Status().tripped_gates, IsEmpty());
}

TEST_F(GatePlanTest, ANodesLastWordCountsEvenWhereItIsTheLast) {
  // All but it are there already: it must not complete the rollout.
  Do("n4", {.cut_connections = 2000});
  world_.Apply("main", kNoCanary);
  world_.Settle([&] { EXPECT_NE(Status().current_revision, 2); });
  ExpectRolledBack("n4", "cutConnections");
}

TEST_F(GatePlanTest, AgentsThatReportNothingAreNotJudged) {
  for (auto& [name, agent] : world_.agents) {
    agent.reports_impact = false;
    agent.impacts[2] = {.cut_connections = 2000};
  }
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "gates": {"cutConnections": 0,
                           "syncLatency": "0s", "failedConnections": "0%"}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(GatePlanTest, FiguresOfAnotherRevisionAreNotHeldAgainstThisOne) {
  for (auto& [name, agent] : world_.agents)
    agent.impacts[1] = {.cut_connections = 2000};
  world_.StepAgents();
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  // Nor is what comes when the revision has been good everywhere.
  Do("n3", {.cut_connections = 2000});
  world_.StepAgents();
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_FALSE(True("Degraded"));
  world_.AddNode("n5");
  world_.agents["n5"].impacts[2] = {.cut_connections = 2000};
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(AtRevision(2), 5);
}

TEST_F(GatePlanTest, TheWayBackIsNotHeldUpByGates) {
  Do("n2", {.cut_connections = 2000});
  for (auto& [name, agent] : world_.agents)
    agent.impacts[1] = {.cut_connections = 5000};
  world_.Apply("main", kNoCanary);
  world_.Settle();
  ExpectRolledBack("n2", "cutConnections");
}

// The old mode's connections are cut minutes after the canary serves: the others wait for that.
TEST_F(GatePlanTest, ACanaryIsWaitedForWhileMoreConnectionsDrainThanMayBeCut) {
  FakeAgent& canary = world_.agents["n1"];
  canary.draining_mode = "ipvs";
  canary.draining_connections = 1500;
  world_.Apply("main", R"({"mode": "nftables", "fallbackModes": ["iptables"],
                           "rollout": {"canary": {"nodes": 1, "soak": "60s"}}})");
  for (int i = 0; i < 10; ++i)
    Round();
  world_.Advance(seconds(100));
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_EQ(AtRevision(2), 1);
  EXPECT_EQ(Status().phase, "Canary");
  EXPECT_THAT(Message("Progressing"), AllOf(HasSubstr("gate cutConnections"), HasSubstr("n1")));
  // They end by themselves, all but a few.
  canary.draining_connections = 900;
  world_.StepAgents();
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_GT(AtRevision(2), 1);
  EXPECT_THAT(Message("Progressing"), Not(HasSubstr("gate cutConnections")));
}

TEST_F(GatePlanTest, ACanaryThatDrainsForEverIsNotWaitedForForEver) {
  world_.agents["n1"].draining_mode = "userspace";
  world_.agents["n1"].draining_connections = INT64_MAX;
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 1, "soak": "60s"}}})");
  const kube::TimePoint before = world_.now;
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_GE(world_.now - before, minutes(6)) << "drainTimeout, and a minute";
  EXPECT_LT(world_.now - before, minutes(9));
}

// Connection tracking carries these on: nothing of them will be cut.
TEST_F(GatePlanTest, ConnectionsThatGoOnAnywayAreNotWaitedFor) {
  world_.agents["n1"].draining_mode = "iptables";
  world_.agents["n1"].draining_connections = 5000;
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 1, "soak": "60s"}}})");
  const kube::TimePoint before = world_.now;
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_LT(world_.now - before, minutes(3));
}

TEST_F(GatePlanTest, AGateAndAFailedNodeAreBothTold) {
  Do("n1", {.cut_connections = 2000});
  world_.agents["n2"].fails = {2};
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "maxUnavailable": 4,
                                       "onFailure": "Pause"}})");
  world_.Settle();
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
  EXPECT_THAT(Message("Degraded"),
              AllOf(HasSubstr("n1 (gate cutConnections"), HasSubstr("n2 (a probe failed)")));
  EXPECT_EQ(Status().tripped_gates.size(), 1U);
}

}  // namespace
}  // namespace pointsman::op
