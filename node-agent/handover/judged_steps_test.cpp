// The steps of a handover that are judged over time: what is waited for, what goes on meanwhile,
// and where the way back leads.
#include <gmock/gmock.h>

#include "node-agent/handover/mode_controller_fixture.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""s;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr char kWorse[] = "12 of 12 new connections to default/web stayed unanswered";

class JudgedStepsTest : public ModeControllerTest {
 protected:
  const ModeState& state() const { return controller_.state(); }
  // iptables serves; ipvs is asked for.
  void AskForIpvs() {
    controller_.Apply(Settings(Mode::kIptables), model_);
    Calls();
    controller_.Apply(Settings(Mode::kIpvs), model_);
  }
  void ExpectReverted() {
    EXPECT_EQ(state().active, Mode::kIptables);
    EXPECT_EQ(state().desired, Mode::kIpvs);
    EXPECT_THAT(state().reverted_reason,
                AllOf(HasSubstr("handover to ipvs was reverted"), HasSubstr(kWorse)));
    EXPECT_EQ(state().reverts, 1U);
    EXPECT_EQ(state().watching, "");
  }
};

TEST_F(JudgedStepsTest, TheTrafficIsLookedAtBeforeAndChangesAreWrittenMeanwhile) {
  world_.looks = 4;
  AskForIpvs();
  EXPECT_THAT(Calls(), IsEmpty()) << "nothing is written yet";
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_THAT(state().watching, HasSubstr("before the handover to ipvs"));
  controller_.Sync(model_, ChangeOf(AddEntry("web")));
  EXPECT_THAT(Calls(), ElementsAre("iptables sync"));
  Pass(4 * StepJudge::kPoll);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().watching, "");
}

TEST_F(JudgedStepsTest, WhatIsNoLongerWantedWhileItIsLookedAtIsNotBegun) {
  world_.looks = 4;
  AskForIpvs();
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_EQ(state().watching, "");
  Pass(60s);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_THAT(Calls(), Not(Contains("ipvs full")));
}

TEST_F(JudgedStepsTest, ANewModeIsWatchedAndTheOneBeforeIsThereUntilThen) {
  world_.verdict_looks = 8;
  AskForIpvs();
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().draining, Mode::kIptables) << "though it has no connection left";
  EXPECT_THAT(state().watching, HasSubstr("ipvs serves them instead of iptables"));
  Calls();
  controller_.Sync(model_, ChangeOf(AddEntry("web")));
  EXPECT_THAT(Calls(), ElementsAre("ipvs sync"));
  Pass(7 * StepJudge::kPoll);
  EXPECT_EQ(state().draining, Mode::kIptables);
  Pass(10s);
  EXPECT_FALSE(state().draining);
  EXPECT_EQ(state().watching, "");
  EXPECT_EQ(state().reverted_reason, "");
  EXPECT_EQ(state().reverts, 0U);
}

TEST_F(JudgedStepsTest, WhatIsSeenOfBothStepsIsTold) {
  world_.verdict_looks = 8;
  world_.figures = {.before = 40, .failed_before = 1, .after = 80, .failed_after = 3};
  world_.connections[Mode::kIptables] = 3;
  AskForIpvs();
  EXPECT_EQ(state().toll.traffic.after, 0U) << "it is not judged yet";
  Pass(8 * StepJudge::kPoll);
  EXPECT_EQ(state().toll.traffic.after, 80U);
  world_.connections[Mode::kIptables] = 0;
  Pass(20s);
  EXPECT_FALSE(state().draining);
  EXPECT_EQ(state().toll.traffic.before, 80U);
  EXPECT_EQ(state().toll.traffic.failed_before, 2U);
  EXPECT_EQ(state().toll.traffic.after, 160U);
  EXPECT_EQ(state().toll.traffic.failed_after, 6U);
  EXPECT_EQ(state().toll.cut_connections, 0U);
}

TEST_F(JudgedStepsTest, WhatIsSeenOfAStepThatIsUndoneIsNot) {
  world_.worse_after_switch = {kWorse};
  world_.figures = {.before = 40, .failed_before = 1, .after = 80, .failed_after = 70};
  AskForIpvs();
  ExpectReverted();
  EXPECT_EQ(state().toll.traffic.after, 0U);
}

TEST_F(JudgedStepsTest, ConnectionsThatEndWithTheirModeAreCounted) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.connections[Mode::kIpvs] = 5;
  controller_.Apply(Settings(Mode::kIptables), model_);
  Pass(4min);
  EXPECT_EQ(state().draining, Mode::kIpvs);
  EXPECT_EQ(state().toll.cut_connections, 0U);
  world_.connections[Mode::kIpvs] = 3;
  world_.looks = 20;
  Pass(1min + 500ms);
  EXPECT_EQ(state().draining, Mode::kIpvs) << "its removal is looked at first";
  world_.connections[Mode::kIpvs] = 2;
  Pass(10s);
  EXPECT_FALSE(state().draining);
  EXPECT_EQ(state().toll.cut_connections, 2U) << "as many as there were when it went";
  // Those of iptables mode go on in connection tracking.
  world_.connections[Mode::kIptables] = 5;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Pass(10min);
  EXPECT_FALSE(state().draining);
  EXPECT_EQ(state().toll.cut_connections, 2U);
  controller_.RemoveAll();
  EXPECT_EQ(state().toll.cut_connections, 2U) << "it never falls";
}

// With the connections that it still has.
TEST_F(JudgedStepsTest, TheModeBeforeServesAgainWhenAWatchShowsTheNewOneToBeWorse) {
  world_.verdict_looks = 8;
  world_.worse_after_switch = {kWorse};
  world_.connections[Mode::kIptables] = 3;
  AskForIpvs();
  Calls();
  Pass(3s);
  EXPECT_THAT(Calls(), AllOf(Contains("iptables full"), Contains("ipvs drain"),
                             Contains("ipvs remove"), Not(Contains("iptables remove"))));
  ExpectReverted();
  EXPECT_FALSE(state().draining) << "ipvs has none";
}

TEST_F(JudgedStepsTest, TheDesiredModeIsTriedAgainLater) {
  world_.worse_after_switch = {kWorse};
  AskForIpvs();
  ExpectReverted();
  world_.worse_after_switch.clear();
  Pass(ModeController::kRevertedRetry - 1s);
  EXPECT_EQ(state().active, Mode::kIptables);
  Pass(2s);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().reverted_reason, "");
  EXPECT_EQ(state().reverts, 1U);
}

// Each try cuts clients off for some seconds.
TEST_F(JudgedStepsTest, WhatStaysWorseIsTriedEverMoreSeldomUntilTheSettingsChange) {
  world_.worse_after_switch = {kWorse};
  AskForIpvs();
  Pass(std::chrono::hours(24));
  EXPECT_GE(state().reverts, 5U);
  EXPECT_LE(state().reverts, 12U);
  EXPECT_EQ(state().active, Mode::kIptables);
  kube::ProxySettings changed = Settings(Mode::kIpvs);
  changed.ipvs.scheduler = "lc";
  const uint64_t before = state().reverts;
  controller_.Apply(changed, model_);
  EXPECT_EQ(state().reverts, before + 1);
  Pass(ModeController::kRevertedRetry + 1s);
  EXPECT_EQ(state().reverts, before + 2);
}

TEST_F(JudgedStepsTest, TheRemovalOfTheModeBeforeIsLookedAtAndWatchedToo) {
  world_.looks = 20;
  world_.verdict_looks = 30;
  world_.connections[Mode::kIptables] = 1;
  AskForIpvs();
  Pass(20s);
  EXPECT_EQ(state().draining, Mode::kIptables);
  EXPECT_EQ(state().watching, "") << "the switch was found to be good";
  world_.connections[Mode::kIptables] = 0;
  Calls();
  Pass(Drain::kPoll);
  EXPECT_EQ(state().draining, Mode::kIptables) << "it is looked at first";
  EXPECT_THAT(Calls(), ElementsAre("iptables drain")) << "once: nothing comes back to it";
  Pass(20 * StepJudge::kPoll);
  EXPECT_FALSE(state().draining);
  EXPECT_THAT(state().watching, HasSubstr("ipvs serves them instead of iptables"));
  Pass(10s);
  EXPECT_EQ(state().watching, "");
  EXPECT_EQ(state().active, Mode::kIpvs);
}

TEST_F(JudgedStepsTest, AModeWhoseRemovalMadeItWorseIsProgrammedAgain) {
  world_.looks = 4;
  world_.verdict_looks = 8;
  world_.worse_after_removal[Mode::kIptables] = {kWorse};
  AskForIpvs();
  Pass(4 * StepJudge::kPoll);
  EXPECT_EQ(state().active, Mode::kIpvs);
  world_.connections[Mode::kIpvs] = 5;
  Pass(10s);
  ExpectReverted();
  EXPECT_EQ(state().draining, Mode::kIpvs) << "with what it has got meanwhile";
  EXPECT_EQ(state().draining_connections, 5U);
  // The way back is not judged: what would it be compared with?
  world_.worse_after_removal[Mode::kIpvs] = {kWorse};
  world_.connections[Mode::kIpvs] = 0;
  Pass(30s);
  ExpectReverted();
  EXPECT_FALSE(state().draining);
}

TEST_F(JudgedStepsTest, WhatCannotGoBackServesAndSaysSo) {
  world_.worse_after_removal[Mode::kIptables] = {kWorse};
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.connections[Mode::kIptables] = 1;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.cannot_program.insert(Mode::kIptables);
  world_.connections[Mode::kIptables] = 0;
  Pass(5s);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_FALSE(state().failed) << "ipvs serves as well as it can";
  EXPECT_THAT(state().reverted_reason,
              AllOf(HasSubstr("ipvs serves worse than iptables did, and going back failed"),
                    HasSubstr(kWorse)));
}

// A drain's time is a promise.
TEST_F(JudgedStepsTest, WhatCannotBeLookedAtBeforeItsRemovalIsRemoved) {
  world_.connections[Mode::kIptables] = 1;
  AskForIpvs();
  world_.looks_fail = true;
  Pass(6min);
  EXPECT_FALSE(state().draining);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_THAT(controller_.steps().failing(), IsEmpty()) << "that is over";
}

// Nothing may hold that up.
TEST_F(JudgedStepsTest, AnAgentThatEndsDoesNotWaitForAVerdict) {
  world_.looks = world_.verdict_looks = 1'000'000;
  controller_.Apply(Settings(Mode::kUserspace), model_);
  world_.connections[Mode::kUserspace] = 1;
  ASSERT_TRUE(controller_.LeaveToKernel(model_, 20s));
  EXPECT_EQ(state().active, Mode::kIptables);
  Pass(21s);
  EXPECT_FALSE(state().draining);
}

TEST_F(JudgedStepsTest, AnotherModeCanBeAskedForWhileOneIsWatched) {
  world_.verdict_looks = 1'000'000;
  AskForIpvs();
  controller_.Apply(Settings(Mode::kNftables), model_);
  EXPECT_EQ(state().active, Mode::kNftables);
  EXPECT_EQ(state().draining, Mode::kIpvs);
  EXPECT_THAT(Calls(), Contains("iptables remove"));
}

}  // namespace
}  // namespace pointsman::agent
