// Others on the node that have to be ready for a mode before it takes connections.
#include <gmock/gmock.h>

#include "node-agent/handover/mode_controller_fixture.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kLacks = "the policy engine has not looked yet";

class AnnouncementsTest : public ModeControllerTest {
 protected:
  // iptables serves, and ipvs is asked for.
  void BeginToWait() {
    controller_.Apply(Settings(Mode::kIptables), model_);
    Pass(1s);
    world_.others_lack[Mode::kIpvs] = kLacks;
    Calls();
    controller_.Apply(Settings(Mode::kIpvs), model_);
  }
  const ModeState& state() const { return controller_.state(); }
};

TEST_F(AnnouncementsTest, AHandoverWaitsUntilTheyAreReady) {
  BeginToWait();
  Pass(10s);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(state().waits_for, kLacks);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
  EXPECT_THAT(Calls(), Not(Contains(HasSubstr("ipvs"))));
  world_.others_lack.clear();
  Pass(Announcements::kPoll);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().waits_for, "");
  EXPECT_EQ(state().reverted_reason, "");
  EXPECT_THAT(Calls(), Contains("iptables drain"));
}

TEST_F(AnnouncementsTest, WhereTheyAreReadyNothingWaits) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(state().active, Mode::kIpvs);
}

TEST_F(AnnouncementsTest, ChangesAreWrittenWhileItWaits) {
  BeginToWait();
  Calls();
  controller_.Sync(model_, ChangeOf(AddEntry("web")));
  EXPECT_THAT(Calls(), ElementsAre("iptables sync"));
}

TEST_F(AnnouncementsTest, AHandoverThatWaitedTooLongIsRevertedAndTriedAgain) {
  BeginToWait();
  Pass(Announcements::kLongestWait - 1s);
  EXPECT_EQ(state().reverted_reason, "");
  Pass(1s);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(state().waits_for, "");
  EXPECT_THAT(state().reverted_reason, HasSubstr(kLacks));
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs)) << "they go back to what serves";
  EXPECT_THAT(Calls(), Not(Contains(HasSubstr("ipvs"))));
  world_.others_lack.clear();
  Pass(ModeController::kRevertedRetry);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().reverted_reason, "");
}

TEST_F(AnnouncementsTest, WhereThatIsAcceptedTheHandoverGoesOnAfterTheWait) {
  world_.others_accepted = true;
  world_.looks = 4;  // it is not asked once only
  BeginToWait();
  Pass(Announcements::kLongestWait - 1s);
  EXPECT_EQ(state().active, Mode::kIptables);
  Pass(2s);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().not_ready, "");
}

TEST_F(AnnouncementsTest, WhoAsksForAnotherModeMeanwhileWaitsNoLonger) {
  BeginToWait();
  controller_.Apply(Settings(Mode::kNftables), model_);
  EXPECT_EQ(state().active, Mode::kNftables);
  EXPECT_EQ(state().waits_for, "");
  Pass(2 * Announcements::kLongestWait);
  EXPECT_EQ(state().active, Mode::kNftables);
  EXPECT_EQ(state().reverted_reason, "");
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs));
}

TEST_F(AnnouncementsTest, OtherSettingsOfTheSameModeDoNotBeginTheWaitAgain) {
  BeginToWait();
  Pass(40s);
  kube::ProxySettings other = Settings(Mode::kIpvs);
  other.ipvs.scheduler = "lc";
  controller_.Apply(other, model_);
  Pass(20s);
  EXPECT_THAT(state().reverted_reason, HasSubstr(kLacks));
}

// What could run by then cannot any more.
TEST_F(AnnouncementsTest, AModeThatCannotRunAnyMoreIsNotWaitedFor) {
  BeginToWait();
  world_.cannot_run.insert(Mode::kIpvs);
  kube::ProxySettings other = Settings(Mode::kIpvs);
  other.ipvs.scheduler = "lc";
  controller_.Apply(other, model_);
  world_.others_lack.clear();
  Pass(1s);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(state().waits_for, "");
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs));
}

// Back: they have to know as long as the mode has connections.
TEST_F(AnnouncementsTest, ItIsWithdrawnWhenTheModeIsGoneFromTheKernel) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.connections[Mode::kIpvs] = 2;
  controller_.Apply(Settings(Mode::kIptables), model_);
  Pass(10s);
  EXPECT_EQ(state().draining, Mode::kIpvs);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
  world_.throws["ipvs remove"] = 1;
  world_.connections[Mode::kIpvs] = 0;
  Pass(1s);
  EXPECT_FALSE(state().draining);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs)) << "it could not be removed yet";
  Pass(ModeController::kRetry);
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs));
}

TEST_F(AnnouncementsTest, AWithdrawalThatFailsIsTriedAgain) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.throws["ipvs withdraw"] = 2;
  Pass(1s);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
  EXPECT_THAT(controller_.steps().failing(), Contains(testing::Key("withdraw ipvs")));
  Pass(20s);
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs));
  EXPECT_THAT(controller_.steps().failing(), IsEmpty());
}

TEST_F(AnnouncementsTest, OthersThatCannotBeToldCountAsNotReady) {
  world_.throws["ipvs announce"] = World::kForEver;
  controller_.Apply(Settings(Mode::kIptables), model_);
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(state().waits_for, HasSubstr("no buffer space for ipvs announce"));
  Pass(Announcements::kLongestWait);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_THAT(state().reverted_reason, HasSubstr("no buffer space for ipvs announce"));
  EXPECT_THAT(controller_.steps().failing(), IsEmpty()) << "it is not tried for now";
}

// Nothing serves: others may need a Service to get ready.
TEST_F(AnnouncementsTest, AtTheFirstStartAFallbackModeServesMeanwhile) {
  world_.others_lack[Mode::kIpvs] = kLacks;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(state().waits_for, kLacks);
  EXPECT_EQ(state().fallback_reason, "");
  Pass(5s);
  world_.others_lack.clear();
  Pass(1s);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().waits_for, "");
}

TEST_F(AnnouncementsTest, AtTheFirstStartWithoutAnyOtherModeItServesAfterTheWait) {
  world_.others_lack[Mode::kIpvs] = kLacks;
  kube::ProxySettings settings = Settings(Mode::kIpvs);
  settings.fallback_modes.clear();
  controller_.Apply(settings, model_);
  Pass(Announcements::kLongestWait - 1s);
  EXPECT_FALSE(state().active);
  EXPECT_EQ(state().waits_for, kLacks);
  Pass(2s);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().not_ready, kLacks) << "said as long as it is so";
  world_.others_lack.clear();
  Pass(1s);
  EXPECT_EQ(state().not_ready, "");
}

TEST_F(AnnouncementsTest, WhatServesIsAdoptedWithoutAWait) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.others_lack[Mode::kIpvs] = kLacks;
  ModeController next(environment_);
  next.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(next.state().active, Mode::kIpvs);
  EXPECT_TRUE(next.state().synced_once);
  EXPECT_EQ(next.state().not_ready, kLacks);
}

// Killed at any step of the wait.
TEST_F(AnnouncementsTest, AnAgentThatIsStartedAgainWaitsAgain) {
  BeginToWait();
  ModeController next(environment_);
  next.Apply(Settings(Mode::kIpvs), model_);
  next.Tick(model_);
  EXPECT_EQ(next.state().active, Mode::kIptables);
  EXPECT_EQ(next.state().waits_for, kLacks);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
}

TEST_F(AnnouncementsTest, AnAgentThatIsStartedAgainForAnotherModeWithdrawsIt) {
  BeginToWait();
  ModeController next(environment_);
  next.Apply(Settings(Mode::kIptables), model_);
  next.Tick(model_);
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs));
}

// Killed when the mode was written already: it may have connections.
TEST_F(AnnouncementsTest, WhatABrokenOffHandoverLeftGoesWhenItIsGivenUp) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs};
  world_.others_lack[Mode::kIpvs] = kLacks;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Pass(10s);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
  Calls();
  Pass(Announcements::kLongestWait);
  EXPECT_THAT(state().reverted_reason, HasSubstr(kLacks));
  EXPECT_THAT(Calls(), testing::IsSupersetOf({"iptables full", "ipvs remove"}));
  EXPECT_FALSE(world_.in_kernel.contains(Mode::kIpvs));
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs));
}

// Who comes while it serves has to know too, and so has who was told and forgot.
TEST_F(AnnouncementsTest, WhileItServesTheyAreToldTwiceASecond) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.told.clear();
  Pass(Canaries::kPeriod);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
}

TEST_F(AnnouncementsTest, RemovalWithdrawsItLast) {
  BeginToWait();
  EXPECT_THAT(controller_.RemoveAll(), IsEmpty());
  EXPECT_THAT(world_.told, IsEmpty());
  EXPECT_EQ(controller_.state().waits_for, "");
  Pass(2 * Announcements::kLongestWait);
  EXPECT_FALSE(controller_.state().active);

  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.throws["ipvs withdraw"] = 1;
  EXPECT_THAT(controller_.RemoveAll(), Not(IsEmpty()));
  EXPECT_THAT(controller_.RemoveAll(), IsEmpty());
  EXPECT_THAT(world_.told, IsEmpty());
}

// It never served, and the one that does goes on.
TEST_F(AnnouncementsTest, AtTheEndOfUserspaceModeNothingIsWaitedForAnyMore) {
  controller_.Apply(Settings(Mode::kUserspace), model_);
  world_.connections[Mode::kUserspace] = 3;
  world_.others_lack[Mode::kIpvs] = kLacks;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_TRUE(controller_.LeaveToKernel(model_, 20s));
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(state().waits_for, "");
  Pass(1s);
  EXPECT_FALSE(world_.told.contains(Mode::kIpvs));
}

// They are ready, and what clients meet is watched before the handover.
TEST_F(AnnouncementsTest, ItStaysAnnouncedWhileTrafficIsLookedAt) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Pass(1s);
  world_.withdrawals.clear();
  world_.looks = 4;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Pass(2 * StepJudge::kPoll);
  EXPECT_EQ(state().active, Mode::kIptables);
  // They are not any more: what was seen until now is not the state before the handover.
  world_.others_lack[Mode::kIpvs] = kLacks;
  Pass(10 * StepJudge::kPoll);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(state().watching, "");
  EXPECT_EQ(state().waits_for, kLacks);
  world_.others_lack.clear();
  Pass(1s);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(world_.withdrawals[Mode::kIpvs], 0);
}

// What they have for a mode is theirs as long as the node may go back to it.
TEST_F(AnnouncementsTest, ItStaysAnnouncedWhileItsRemovalIsJudged) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.verdict_looks = 8;
  world_.worse_after_removal[Mode::kIpvs] = {"nobody is answered"};
  controller_.Apply(Settings(Mode::kIptables), model_);
  Pass(10s);
  EXPECT_EQ(state().active, Mode::kIpvs) << "it went back";
  EXPECT_THAT(state().reverted_reason, HasSubstr("nobody is answered"));
  EXPECT_EQ(world_.withdrawals[Mode::kIpvs], 0);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
}

// A handover that is about to be tried again does not make them go back and forth.
TEST_F(AnnouncementsTest, ItStaysAnnouncedWhileAStepOfTheHandoverIsRetried) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Pass(1s);
  world_.throws["probe"] = 1;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_NE(state().unfinished, "");
  Pass(1s);
  EXPECT_TRUE(world_.told.contains(Mode::kIpvs));
  Pass(ModeController::kRetry);
  EXPECT_EQ(state().active, Mode::kIpvs);
}

}  // namespace
}  // namespace pointsman::agent
