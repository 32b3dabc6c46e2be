// What nodes write is theirs to say and not to be believed: times, numbers, modes and answers that
// cannot be true. And clocks that differ, of nodes and of operators.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/pointsman/limits.h"
#include "operator/plan/plan_fixture.h"

namespace pointsman::op {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kSoak = R"({"rollout": {"canary": {"nodes": 1, "soak": "60s"},
                                              "minReady": "10s"}})";

class HostileStatusTest : public PlanTest {
 protected:
  void Rewrite(const std::string& node, const std::function<void(kube::NodeProxyStatus&)>& write) {
    auto proxy = std::make_shared<kube::NodeProxy>(*world_.proxies.at(node));
    write(proxy->status);
    world_.proxies[node] = std::move(proxy);
  }
  // Plans until one node is asked to change, and performs that.
  std::string StartOne() {
    while (world_.InTransition() == 0) {
      world_.Perform(world_.MakePlan());
      if (world_.InTransition() == 0) world_.StepAgents();
    }
    for (const auto& [name, proxy] : world_.proxies) {
      if (proxy->status.observed_revision != proxy->spec.revision) return name;
    }
    return "";
  }
};

TEST_F(HostileStatusTest, NumbersInAStatusAreNotTheOperators) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  for (const int64_t number :
       {INT64_MAX, INT64_MAX - 1, int64_t{1} << 60, int64_t{1} << 52, int64_t{-5}}) {
    Rewrite("n1", [&](kube::NodeProxyStatus& status) {
      status.observed_revision = number;
      status.candidate = kube::CandidateStatus{number, "ipvs", true, ""};
    });
    const Revision next = MakeRevision(world_.Configuration("main"), {}, 2);
    world_.Apply("other", R"({"priority": 1, "nodeSelector": {"matchLabels": {"no": "such"}}})");
    world_.Perform(world_.MakePlan());
    world_.Perform(world_.MakePlan());
    EXPECT_EQ(Status("other").update_revision, next.number) << number;
    world_.Delete("other");
    world_.Settle();
    std::erase_if(world_.revisions,
                  [](const auto& item) { return item.second.configuration == "other"; });
  }
}

// In what the operator itself writes, a number that a person has put there.
TEST_F(HostileStatusTest, NumbersThatAreUsedUpAreNoEnd) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  const auto set = [&](int64_t number) {
    auto next = std::make_shared<kube::ProxyConfiguration>(*world_.configurations.at("main"));
    next->status.update_revision = number;
    world_.configurations["main"] = std::move(next);
  };
  set(INT64_MAX);
  world_.Apply("main", R"({"ipvs": {"scheduler": "lc"}, "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().update_revision, 2) << "one that is out of bounds does not count";
  set(kube::limits::kMaxRevision);
  world_.Apply("main", R"({"ipvs": {"scheduler": "sh"}, "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  EXPECT_EQ(Status().update_revision, 3) << "the least that is free";
  EXPECT_EQ(AtRevision(3), 2);
}

// As an operator left them that took a node's word for the next number.
TEST_F(HostileStatusTest, NumbersThatCannotBeUsedAreReplaced) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  for (auto& [name, revision] : world_.revisions)
    revision.number = INT64_MAX;
  for (auto& [name, proxy] : world_.proxies) {
    auto next = std::make_shared<kube::NodeProxy>(*proxy);
    next->spec.revision = INT64_MAX;
    proxy = std::move(next);
  }
  auto next = std::make_shared<kube::ProxyConfiguration>(*world_.configurations.at("main"));
  next->status.update_revision = next->status.current_revision = 0;  // as it is read
  world_.configurations["main"] = std::move(next);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(world_.revisions.size(), 1U);
  EXPECT_EQ(AtRevision(1), 2);
}

TEST_F(HostileStatusTest, OnlyModesThatThereAreAreCounted) {
  AddNodes(3);
  world_.Apply("main", kNoCanary);
  world_.Settle();
  const std::string odd(32'000, 'x');
  for (const std::string& mode : {odd, std::string("ebpf"), std::string("IPVS")}) {
    Rewrite("n1", [&](kube::NodeProxyStatus& status) { status.active_mode = mode; });
    world_.Perform(world_.MakePlan());
    EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"ipvs", 2}}));
  }
  world_.Apply("main", R"({"mode": "x"})");
  world_.Perform(world_.MakePlan());
  EXPECT_EQ(Status().phase, "Rejected");
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"ipvs", 2}}));
}

TEST_F(HostileStatusTest, AnAnswerThatMakesNoSenseLeavesOutThatNodeOnly) {
  const std::pair<kube::CandidateStatus, const char*> answers[] = {
      {{1, "nftables", false, ""}, "mode \"nftables\" would run"},  // is none of the fallbacks
      {{1, "", true, ""}, "ipvs passed and mode \"\" would run"},
      {{1, "iptables", true, ""}, "ipvs passed and mode \"iptables\" would run"},
      {{1, "ipvs", false, "no"}, "ipvs did not pass and mode \"ipvs\" would run"},
      {{1, "magic", true, ""}, "mode \"magic\" would run"},
  };
  for (const auto& [answer, said] : answers) {
    world_ = FakeWorld();
    AddNodes(3);
    world_.Apply("main", kNoCanary);
    world_.Perform(world_.MakePlan());
    world_.Perform(world_.MakePlan());
    world_.StepAgents();
    world_.agents["n1"].alive = false;
    Rewrite("n1", [&answer = answer](kube::NodeProxyStatus& status) { status.candidate = answer; });
    world_.Settle();
    EXPECT_EQ(world_.Proxy("n1")->spec.revision, 0) << said;
    EXPECT_EQ(AtRevision(1), 2) << said;
    EXPECT_EQ(Reason("Degraded"), "NoModeCanRun");
    EXPECT_THAT(Message("Degraded"), AllOf(HasSubstr("n1"), HasSubstr(said)));
  }
}

// Of kube-proxy's rules a node can say what it likes: it is quoted, and bounded.
TEST_F(HostileStatusTest, AWordOnKubeProxyIsOneOfThoseThatThereAre) {
  AddNodes(2);
  world_.AddKubeProxy();
  const std::string odd(32'000, 'x');
  world_.agents.at("n1").drains_kube_proxy = true;
  world_.Apply("main", R"({"kubeProxy": {"policy": "TakeOver"},
                           "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})");
  for (int i = 0; i < 200; ++i) {
    Round();
    if (world_.proxies.contains("n1")) {
      Rewrite("n1", [&](kube::NodeProxyStatus& status) {
        status.kube_proxy = kube::KubeProxyStatus{odd, odd};
      });
    }
    world_.StepKubeProxy();
    world_.Advance(seconds(5));
  }
  EXPECT_EQ(Reason("KubeProxyReplaced"), "NodesNotReplaced");
  EXPECT_THAT(Message("KubeProxyReplaced"), AllOf(HasSubstr("n1 (xxx"), Not(HasSubstr("n2"))));
  EXPECT_LT(Message("KubeProxyReplaced").size(), 1000U);
}

// An answer to the question before, or one that nobody has asked for, is none.
TEST_F(HostileStatusTest, AnAnswerFromBeforeTheQuestionIsNone) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  world_.Perform(world_.MakePlan());
  world_.Perform(world_.MakePlan());
  world_.StepAgent("n2");
  Rewrite("n1", [&](kube::NodeProxyStatus& status) {
    status.candidate = kube::CandidateStatus{1, "ipvs", true, ""};
  });
  for (int i = 0; i < 3; ++i)
    world_.Perform(world_.MakePlan());
  EXPECT_EQ(Reason("PreflightPassed"), "WaitingForAgents");
  EXPECT_EQ(AtRevision(1), 0);
}

// What is no time at all ("soon") the server does not take: format date-time.
TEST_F(HostileStatusTest, AReadyTimeOfTheFutureOrThePastHoldsUpNothing) {
  for (const char* time : {"2099-01-01T00:00:00Z", "2400-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
                           "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"}) {
    world_ = FakeWorld();
    AddNodes(3);
    world_.Apply("main", kSoak);
    world_.after_write = [&] {
      for (const auto& [name, proxy] : std::map(world_.proxies)) {
        Rewrite(name, [&](kube::NodeProxyStatus& status) {
          for (kube::Condition& condition : status.conditions)
            condition.last_transition_time = time;
        });
      }
    };
    const kube::TimePoint before = world_.now;
    world_.Settle();
    EXPECT_EQ(Status().phase, "Complete") << time;
    EXPECT_EQ(AtRevision(1), 3) << time;
    // The canary's soak and minReady, by the operator's clock.
    EXPECT_GE(world_.now - before, seconds(70)) << time;
    EXPECT_LT(world_.now - before, minutes(10)) << time;
  }
}

// What the operator's own clock says of a node that was Ready before it began to look is the node's
// word. One of the future is not: the node counts minReady later, and not never.
TEST_F(HostileStatusTest, ANewLeaderIsNotHeldUpByTimesOfTheFuture) {
  AddNodes(3);
  for (const char* name : {"n1", "n2", "n3"})
    world_.agents[name].clock_ahead = hours(24 * 365 * 300);
  world_.Apply("main", kSoak);
  world_.Settle();
  ASSERT_EQ(Status().phase, "Complete");
  world_.ChangeLeader();
  const kube::TimePoint before = world_.now;
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_LE(world_.now - before, seconds(75));
}

TEST_F(HostileStatusTest, ANewLeaderSeesACompleteRolloutAsComplete) {
  AddNodes(3);
  world_.agents["n2"].clock_ahead = hours(-24 * 365 * 20);
  world_.Apply("main", kSoak);
  world_.Settle();
  world_.AddBareNode("n4");
  world_.Settle();
  world_.SetDead("n3", true);
  world_.Settle();
  ASSERT_EQ(Status().phase, "Complete");
  for (const seconds skew : {seconds(0), seconds(hours(9)), seconds(hours(-9))}) {
    world_.ChangeLeader(skew);
    world_.Perform(world_.MakePlan());
    EXPECT_EQ(Status().phase, "Complete") << skew.count();
    EXPECT_TRUE(True("Available")) << skew.count();
  }
}

// A node that comes and goes is never available: it runs out of time instead of holding the others
// up for ever.
TEST_F(HostileStatusTest, ANodeThatComesAndGoesFailsAfterTheDeadline) {
  AddNodes(3);
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "minReady": "10s"}})");
  const std::string node = StartOne();
  bool up = false;
  for (int i = 0; i < 11 * 60 / 5; ++i) {
    Round();
    up = !up;
    Rewrite(node, [&](kube::NodeProxyStatus& status) {
      kube::SetCondition(
          status.conditions,
          {"Ready", up ? kube::ConditionStatus::kTrue : kube::ConditionStatus::kFalse, "Flapping",
           "it comes and goes", "", 1},
          kube::FormatTime(world_.now));
    });
    world_.Perform(world_.MakePlan());
    world_.Advance(seconds(5));
  }
  world_.Perform(world_.MakePlan());
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
  EXPECT_THAT(Message("Degraded"), HasSubstr(node));
}

// Left as it is for no mode can run there, and not serving: it does not take the others' place.
TEST_F(HostileStatusTest, ANodeThatStaysDownHoldsUpTheOthersUntilTheDeadlineOnly) {
  AddNodes(3);
  world_.Apply("main", R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})");
  world_.Settle();
  Rewrite("n2", [&](kube::NodeProxyStatus& status) {
    kube::SetCondition(status.conditions,
                       {"Ready", kube::ConditionStatus::kFalse, "SyncFailed", "no memory", "", 1},
                       kube::FormatTime(world_.now));
  });
  world_.Apply("main", R"({"mode": "nftables", "fallbackModes": [],
                           "rollout": {"canary": {"nodes": 0}}})");
  for (const char* name : {"n1", "n3"})
    world_.agents[name].can_run.insert(kube::Mode::kNftables);
  world_.agents["n2"].can_run = {};
  const auto agent = [&] {
    // Answers, and says nothing else.
    Rewrite("n2", [&](kube::NodeProxyStatus& status) {
      status.observed_generation = world_.Proxy("n2")->generation;
      status.candidate = kube::CandidateStatus{2, "", false, "cannot"};
    });
  };
  for (int i = 0; i < 6; ++i) {
    world_.Perform(world_.MakePlan());
    for (const char* name : {"n1", "n3"})
      world_.StepAgent(name);
    agent();
  }
  EXPECT_EQ(AtRevision(2), 0) << "one node is down already, and maxUnavailable is 1";
  world_.Advance(minutes(10));
  for (int i = 0; i < 40; ++i) {
    world_.Perform(world_.MakePlan());
    for (const char* name : {"n1", "n3"})
      world_.StepAgent(name);
    world_.Advance(seconds(5));
  }
  EXPECT_EQ(AtRevision(2), 2);
  EXPECT_EQ(Reason("Degraded"), "NoModeCanRun");
}

TEST_F(HostileStatusTest, ClocksThatDifferAreSaid) {
  AddNodes(5);
  world_.agents["n1"].clock_ahead = hours(24 * 365 * 8);
  world_.agents["n2"].clock_ahead = hours(-5);
  world_.agents["n3"].clock_ahead = seconds(20);
  world_.Apply("main", kSoak);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_TRUE(True("ClockSkew"));
  EXPECT_THAT(Message("ClockSkew"),
              AllOf(HasSubstr("n1 (about 7 years ahead)"), HasSubstr("n2 (about 5 hours behind)"),
                    Not(HasSubstr("n3")), Not(HasSubstr("operator's own"))));
  EXPECT_TRUE(world_.HasEvent("ClocksDiffer"));
  EXPECT_FALSE(world_.MakePlan().wake_up);

  for (auto& [name, agent] : world_.agents)
    agent.clock_ahead = {};
  world_.Apply("main", R"({"ipvs": {"scheduler": "lc"}})");
  world_.Settle();
  EXPECT_FALSE(True("ClockSkew"));

  // The operator's own.
  world_.SetClock(hours(-3));
  world_.Apply("main", R"({"ipvs": {"scheduler": "sh"}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_THAT(Message("ClockSkew"), HasSubstr("operator's own node"));
}

// Another operator leads, whose clock is hours off the one's that asked the node to change.
TEST_F(HostileStatusTest, ANewLeaderBeginsRunningDeadlinesAnew) {
  for (const seconds skew : {seconds(hours(5)), seconds(hours(-5)), seconds(hours(24 * 365 * 5)),
                             seconds(hours(-24 * 365 * 5)), seconds(0)}) {
    SCOPED_TRACE(skew.count());
    world_ = FakeWorld();
    AddNodes(3);
    world_.Apply("main", R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})");
    world_.Settle();
    world_.Apply("main", kNoCanary);
    const std::string node = StartOne();
    world_.agents[node].alive = false;
    world_.Advance(minutes(9));
    world_.Perform(world_.MakePlan());
    ASSERT_FALSE(True("Degraded"));

    world_.ChangeLeader(skew);
    world_.Perform(world_.MakePlan());
    EXPECT_FALSE(True("Degraded")) << "overdue at once";
    EXPECT_FALSE(True("RolledBack"));
    world_.Advance(minutes(10) - seconds(1));
    world_.Perform(world_.MakePlan());
    EXPECT_FALSE(True("Degraded"));
    world_.Advance(seconds(1));
    world_.Perform(world_.MakePlan());
    EXPECT_TRUE(True("RolledBack")) << "and not never";
    EXPECT_THAT(Message("RolledBack"), AllOf(HasSubstr(node), HasSubstr("progress deadline")));
  }
}

// What had failed when the lead changed stays failed: no further node is begun with.
TEST_F(HostileStatusTest, ANewLeaderDoesNotGoOnWithAFailedRollout) {
  AddNodes(6);
  world_.Apply("main", R"({"rollout": {"canary": {"nodes": 0}, "maxUnavailable": 2,
                                       "onFailure": "Pause"}})");
  const std::string node = StartOne();
  for (auto& [name, agent] : world_.agents)
    agent.alive = false;
  world_.Settle();
  ASSERT_EQ(Reason("Degraded"), "NodeFailed");
  const int64_t begun = AtRevision(1);
  world_.ChangeLeader();
  for (auto& [name, agent] : world_.agents)
    agent.alive = name != node;
  for (int i = 0; i < 5; ++i)
    Round();
  EXPECT_EQ(AtRevision(1), begun);
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
}

TEST_F(HostileStatusTest, TheQuestionsDeadlineIsTheNewLeadersToo) {
  AddNodes(3);
  world_.agents["n1"].alive = false;
  world_.Apply("main", kNoCanary);
  for (int i = 0; i < 3; ++i)
    Round();
  world_.ChangeLeader(hours(5));
  world_.Perform(world_.MakePlan());
  EXPECT_EQ(Status().phase, "Preflight") << "the agent has had no time";
  world_.ChangeLeader(hours(-10));
  const kube::TimePoint before = world_.now;
  world_.Settle();
  EXPECT_EQ(Reason("Degraded"), "AgentsMissing");
  EXPECT_LT(world_.now - before, minutes(12));
}

TEST_F(HostileStatusTest, TheOperatorsClockMayBeSetInTheMiddle) {
  for (const seconds step : {seconds(hours(7)), seconds(hours(-7))}) {
    SCOPED_TRACE(step.count());
    world_ = FakeWorld();
    AddNodes(3);
    world_.Apply("main", R"({"mode": "iptables", "rollout": {"canary": {"nodes": 0}}})");
    world_.Settle();
    world_.Apply("main", kNoCanary);
    const std::string node = StartOne();
    world_.agents[node].alive = false;
    world_.Perform(world_.MakePlan());
    world_.SetClock(step);
    world_.Perform(world_.MakePlan());
    EXPECT_FALSE(True("RolledBack"));
    world_.Advance(minutes(10) - seconds(1));
    world_.Perform(world_.MakePlan());
    EXPECT_FALSE(True("RolledBack"));
    world_.Advance(seconds(2));
    world_.Perform(world_.MakePlan());
    EXPECT_TRUE(True("RolledBack"));
  }
}

// Whoever took the annotations off.
TEST_F(HostileStatusTest, ADeadlineNeedsNoAnnotation) {
  AddNodes(2);
  world_.Apply("main", kNoCanary);
  const std::string node = StartOne();
  world_.agents[node].alive = false;
  world_.after_write = [&] {
    for (const auto& [name, proxy] : std::map(world_.proxies)) {
      auto bare = std::make_shared<kube::NodeProxy>(*proxy);
      bare->updated_at = bare->asked_at = "";
      world_.proxies[name] = bare;
    }
  };
  world_.Settle();
  EXPECT_EQ(Reason("Degraded"), "NodeFailed");
}

}  // namespace
}  // namespace pointsman::op
