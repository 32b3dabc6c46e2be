#include "node-agent/agent/kube_proxy_removal.h"

#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""min;

class KubeProxyRemovalStepsTest : public ::testing::Test {
 protected:
  using TimePoint = KubeProxyRemoval::TimePoint;

  static KubeProxyRemoval::Kernel Fake(KubeProxyRemovalStepsTest& test) {
    return {.runs = [&test] { return test.runs_; },
            .open =
                [&test](bool first) {
                  if (test.broken_) throw std::runtime_error("no buffer space");
                  test.firsts_ += first ? 1 : 0;
                  return test.open_;
                },
            .remove =
                [&test] {
                  ++test.removals_;
                  return test.failed_;
                },
            .traces =
                [&test] {
                  if (test.broken_) throw std::runtime_error("no buffer space");
                  return test.traces_;
                }};
  }
  void Look(bool asked = true, const std::string& why_not = "") {
    removal_.Look(asked, heard_.value_or(now_), why_not, 1min, now_);
  }
  std::string State() const { return removal_.status() ? removal_.status()->state : ""; }
  std::string Message() const { return removal_.status() ? removal_.status()->message : ""; }

  std::string runs_;
  uint64_t open_ = 0;
  bool broken_ = false;
  std::vector<std::string> failed_;
  std::vector<std::string> traces_;
  int removals_ = 0;
  int firsts_ = 0;
  TimePoint now_{1000s};
  std::optional<TimePoint> heard_;  // of the API server; nullopt: just now
  KubeProxyRemoval removal_{Fake(*this)};
};

TEST_F(KubeProxyRemovalStepsTest, DoesNothingUnasked) {
  Look(false);
  EXPECT_EQ(State(), "");
  EXPECT_EQ(removals_, 0);
  EXPECT_EQ(removal_.due(), TimePoint::max());
}

TEST_F(KubeProxyRemovalStepsTest, RemovesOnceAndSaysSo) {
  for (int i = 0; i < 3; ++i)
    Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  EXPECT_EQ(removals_, 1);
  // Asked anew, since kube-proxy has been here meanwhile.
  Look(false);
  EXPECT_EQ(State(), "");
  EXPECT_EQ(removal_.due(), TimePoint::max());
  Look();
  EXPECT_EQ(removals_, 2);
}

TEST_F(KubeProxyRemovalStepsTest, RemovesNothingWhereOursDoesNotServe) {
  Look(true, "iptables-restore failed");
  EXPECT_EQ(State(), kube::kKubeProxyNotRemoved);
  EXPECT_THAT(Message(), HasSubstr("iptables-restore failed"));
  EXPECT_EQ(removals_, 0);
  EXPECT_EQ(removal_.due(), TimePoint::max()) << "the next sync comes by itself";
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
}

TEST_F(KubeProxyRemovalStepsTest, RemovesNothingWhereKubeProxyRunsWhateverTheOperatorSays) {
  runs_ = "process 7";
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRunning);
  EXPECT_THAT(Message(), HasSubstr("process 7"));
  now_ += 4min;
  Look();
  EXPECT_EQ(removals_, 0);
  EXPECT_EQ(removal_.due(), now_ + KubeProxyRemoval::kPoll);
  now_ += 10min;
  Look();
  EXPECT_EQ(removal_.due(), now_ + KubeProxyRemoval::kRetry) << "it is there to stay";
  runs_.clear();
  now_ += KubeProxyRemoval::kRetry;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
}

TEST_F(KubeProxyRemovalStepsTest, WaitsForConnectionsUntilTheTimeout) {
  open_ = 2;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyDraining);
  EXPECT_EQ(removal_.due(), now_ + KubeProxyRemoval::kPoll);
  now_ += 59s;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyDraining);
  EXPECT_EQ(removals_, 0);
  now_ += 2s;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  EXPECT_EQ(firsts_, 1);
}

// kube-proxy comes back on the operator's word, which does not reach an agent that is cut off.
TEST_F(KubeProxyRemovalStepsTest, AnAgentThatIsCutOffRemovesNothing) {
  open_ = 2;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyDraining);
  heard_ = now_;
  open_ = 0;
  now_ += KubeProxyRemoval::kOrderHolds + 1s;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyNotRemoved);
  EXPECT_THAT(Message(), HasSubstr("nothing was heard of the API server"));
  EXPECT_EQ(removals_, 0);
  heard_ = now_;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
}

TEST_F(KubeProxyRemovalStepsTest, OursThatStopsServingMeanwhileStopsIt) {
  open_ = 2;
  Look();
  now_ += 1s;
  Look(true, "the kernel refused it");
  EXPECT_EQ(State(), kube::kKubeProxyNotRemoved);
  // Then connections have all of the time again.
  now_ += 2min;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyDraining);
  EXPECT_EQ(removals_, 0);
}

TEST_F(KubeProxyRemovalStepsTest, NotAskedAnyMoreStopsIt) {
  open_ = 2;
  Look();
  Look(false);
  now_ += 2min;
  Look(false);
  EXPECT_EQ(State(), "");
  EXPECT_EQ(removals_, 0);
}

TEST_F(KubeProxyRemovalStepsTest, GoesOnAsSoonAsTheyHaveEnded) {
  open_ = 2;
  Look();
  open_ = 0;
  Look();
  EXPECT_EQ(removals_, 0) << "not before it is due";
  now_ += KubeProxyRemoval::kPoll;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
}

TEST_F(KubeProxyRemovalStepsTest, WhatCouldNotBeRemovedIsToldAndTriedAgain) {
  failed_ = {"ipset KUBE-X is in use"};
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyNotRemoved);
  EXPECT_THAT(Message(), HasSubstr("KUBE-X"));
  failed_.clear();
  Look();
  EXPECT_EQ(removals_, 1);
  now_ += KubeProxyRemoval::kRetry;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
}

TEST_F(KubeProxyRemovalStepsTest, AKubeProxyThatComesBackIsToldAndNotFought) {
  traces_ = {"chains of iptables-nft, IPv4"};  // kept empty, since another's chain leads there
  Look();
  ASSERT_EQ(State(), kube::kKubeProxyRemoved);
  now_ += KubeProxyRemoval::kWatch;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  traces_.emplace_back("interface kube-ipvs0");
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved) << "not before it is due";
  now_ = removal_.due();
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyReturned);
  EXPECT_THAT(Message(), AllOf(HasSubstr("interface kube-ipvs0"), Not(HasSubstr("chains"))));
  EXPECT_EQ(removal_.due(), TimePoint::max());
  now_ += 10min;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyReturned);
  EXPECT_EQ(removals_, 1);
  // The operator knows that it has gone again.
  Look(false);
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  EXPECT_EQ(removals_, 2);
}

// Who has waited for the word of the agent before is not to wait again.
TEST_F(KubeProxyRemovalStepsTest, AnAgentThatIsStartedAgainKeepsItsWordAndLooks) {
  removal_.Continue(kube::KubeProxyStatus{kube::kKubeProxyRemoved, ""});
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  Look(true, "not served yet");
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  runs_ = "another program has its port";  // the agent before
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  EXPECT_EQ(removals_, 0);
  traces_ = {"interface kube-ipvs0"};
  now_ += KubeProxyRemoval::kPoll;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRunning) << "no agent's port, but kube-proxy's";
  runs_.clear();
  now_ += KubeProxyRemoval::kPoll;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved);
  EXPECT_EQ(removals_, 1);
}

TEST_F(KubeProxyRemovalStepsTest, OnlyThatItWasRemovedIsKept) {
  for (const char* state : {kube::kKubeProxyDraining, kube::kKubeProxyNotRemoved,
                            kube::kKubeProxyReturned, kube::kKubeProxyRunning}) {
    KubeProxyRemoval removal(Fake(*this));
    removal.Continue(kube::KubeProxyStatus{state, "x"});
    EXPECT_FALSE(removal.status()) << state;
  }
}

TEST_F(KubeProxyRemovalStepsTest, AKernelThatDoesNotAnswerEndsNothing) {
  broken_ = true;
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyNotRemoved);
  EXPECT_THAT(Message(), HasSubstr("no buffer space"));
  EXPECT_EQ(removal_.due(), now_ + KubeProxyRemoval::kRetry);
  broken_ = false;
  now_ = removal_.due();
  Look();
  ASSERT_EQ(State(), kube::kKubeProxyRemoved);
  broken_ = true;
  now_ = removal_.due();
  Look();
  EXPECT_EQ(State(), kube::kKubeProxyRemoved) << "nothing says that it is back";
  EXPECT_EQ(removal_.due(), now_ + KubeProxyRemoval::kWatch);
}

}  // namespace
}  // namespace pointsman::agent
