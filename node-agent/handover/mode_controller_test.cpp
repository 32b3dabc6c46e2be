// The order of a handover and what follows each failure. That the order keeps real connections is
// proven with real kernels in e2e/scenarios; here the dataplanes only write down what they are
// asked.
#include "node-agent/handover/mode_controller.h"

#include <gmock/gmock.h>

#include "node-agent/handover/mode_controller_fixture.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""min;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST_F(ModeControllerTest, FirstStartProgramsAndReadsBack) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_THAT(Calls(), ElementsAre("iptables full", "iptables verify"));
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_TRUE(controller_.state().synced_once);
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_THAT(Calls(), IsEmpty()) << "the same settings again are no work";
}

TEST_F(ModeControllerTest, HandoverMakesBeforeItBreaksAndDrains) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  world_.connections[Mode::kIptables] = 2;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(), ElementsAre("probe", "ipvs full", "ipvs verify", "iptables drain", "probe",
                                   "iptables drain"));
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_EQ(controller_.state().draining, Mode::kIptables);
  EXPECT_EQ(controller_.state().draining_connections, 2U);

  EXPECT_LE(controller_.NextDeadline(), world_.now + Drain::kPoll);
  world_.now += 1s;
  world_.connections[Mode::kIptables] = 0;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("iptables drain", "iptables remove"));
  EXPECT_FALSE(controller_.state().draining);
  EXPECT_EQ(controller_.state().drained.ended, 2U);
  EXPECT_EQ(controller_.state().drained.left, 0U);
  const auto once = std::pair(std::pair(Mode::kIptables, Mode::kIpvs), 1U);
  EXPECT_THAT(controller_.state().handovers, ElementsAre(once));
  EXPECT_THAT(controller_.RemoveAll(), IsEmpty());
  EXPECT_THAT(controller_.state().handovers, ElementsAre(once)) << "counted since the start";
  EXPECT_EQ(controller_.state().drained.ended, 2U);
}

TEST_F(ModeControllerTest, AHandoverCarriesTheClientsOfSessionAffinity) {
  ServicePortEntry entry;
  entry.id.name = "web";
  entry.affinity_timeout = 10800s;
  model_.entries[entry.id] = std::make_shared<const ServicePortEntry>(entry);
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  ClientBinding binding;
  binding.left = 17s;
  world_.bindings = {binding};
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(),
              ElementsAre("probe", "iptables bindings", "ipvs full", "ipvs bind", "ipvs verify",
                          "iptables drain", "probe", "iptables drain", "iptables remove"))
      << "read before and bound before new connections come";
  ASSERT_EQ(world_.bound.size(), 1U);
  EXPECT_EQ(world_.bound[0].left, 17s);

  world_.no_bindings = "/proc is not mounted";
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables) << "affinity holds no handover up";
}

TEST_F(ModeControllerTest, DrainEndsAtItsTimeout) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.connections[Mode::kIpvs] = 7;
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  world_.now += 5min;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), testing::Contains("ipvs remove"));
  EXPECT_FALSE(controller_.state().draining);
  EXPECT_EQ(controller_.state().drained.left, 7U);
  EXPECT_EQ(controller_.state().drained.ended, 0U);
}

TEST_F(ModeControllerTest, GoingBackInTheMiddleOfADrainKeepsTheOldOnesConnections) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.connections[Mode::kIptables] = 2;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Calls();
  world_.connections[Mode::kIpvs] = 1;
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_THAT(Calls(), ElementsAre("probe", "iptables full", "iptables verify", "ipvs drain",
                                   "probe", "ipvs drain"))
      << "iptables must not be removed in between";
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_EQ(controller_.state().draining, Mode::kIpvs);
}

TEST_F(ModeControllerTest, FallsBackAndReturnsWhenThePreflightPasses) {
  world_.cannot_run.insert(Mode::kIpvs);
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_THAT(controller_.state().fallback_reason, HasSubstr("ipvs: no module"));
  EXPECT_FALSE(controller_.state().preflight->passed);

  world_.cannot_run.clear();
  world_.now += ModeController::kPreflightRetry;
  controller_.Tick(model_);
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_EQ(controller_.state().fallback_reason, "");
  EXPECT_TRUE(controller_.state().preflight->passed);
}

TEST_F(ModeControllerTest, BesideANeighbourThatRefusesItAModeIsNotBegun) {
  world_.refused = {Mode::kIpvs};
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_THAT(controller_.state().fallback_reason, HasSubstr("azure-npm"));
  EXPECT_FALSE(controller_.state().preflight->passed);
  EXPECT_EQ(controller_.state().preflight->reason, kNeighbourRefused);
  world_.refused.clear();
  world_.now += ModeController::kPreflightRetry;
  controller_.Tick(model_);
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
}

TEST_F(ModeControllerTest, ANeighbourThatComesLaterTakesNothingAway) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Calls();
  world_.refused = {Mode::kIpvs};
  kube::ProxySettings changed = Settings(Mode::kIpvs);
  changed.ipvs.scheduler = "lc";
  controller_.Apply(changed, model_);
  EXPECT_THAT(Calls(), ElementsAre("ipvs full", "ipvs verify"));
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_EQ(controller_.state().fallback_reason, "");
  EXPECT_TRUE(controller_.state().preflight->passed);
  EXPECT_THAT(controller_.state().preflight->message, HasSubstr("azure-npm"));

  // Nor does the next agent, which finds the mode in the kernel.
  ModeController next(environment_);
  next.Apply(changed, model_);
  EXPECT_EQ(next.state().active, Mode::kIpvs);
  EXPECT_EQ(next.state().fallback_reason, "");
  EXPECT_THAT(Calls(), Not(testing::Contains("iptables full")));

  // What else is missing still counts.
  world_.cannot_run = {Mode::kIpvs};
  next.Apply(changed, model_);
  EXPECT_EQ(next.state().active, Mode::kIptables);
}

TEST_F(ModeControllerTest, WithoutAnyModeWhatRunsGoesOn) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  world_.cannot_run = {Mode::kIpvs, Mode::kIptables};
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(), IsEmpty());
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_NE(controller_.state().fallback_reason, "");
}

TEST_F(ModeControllerTest, HandoverThatCannotBeProgrammedIsTakenBack) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  world_.cannot_program.insert(Mode::kIpvs);
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(),
              ElementsAre("probe", "ipvs full", "iptables full", "iptables verify", "ipvs remove"));
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_THAT(controller_.state().reverted_reason, HasSubstr("10.0.0.1:80: no room"));
}

TEST_F(ModeControllerTest, HandoverAfterWhichAProbeFailsIsTakenBackAndTriedAgainLater) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  world_.probes_fail_in = Mode::kIpvs;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(), ElementsAre("probe", "ipvs full", "ipvs verify", "iptables drain", "probe",
                                   "iptables full", "iptables verify", "ipvs remove"));
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_THAT(controller_.state().reverted_reason, HasSubstr("default/web"));

  world_.probes_fail_in.reset();
  world_.now += ModeController::kRevertedRetry;
  controller_.Tick(model_);
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_EQ(controller_.state().reverted_reason, "");
}

TEST_F(ModeControllerTest, RestartInTheMiddleOfAHandoverDrainsTheOther) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs};
  world_.connections[Mode::kIptables] = 3;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(), ElementsAre("probe", "ipvs full", "ipvs verify", "iptables drain", "probe",
                                   "iptables drain"));
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_EQ(controller_.state().draining, Mode::kIptables);
  EXPECT_EQ(controller_.state().draining_connections, 3U);
}

TEST_F(ModeControllerTest, RestartInTheMiddleOfAHandoverThatCannotBeFinishedKeepsTheOther) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs};
  world_.cannot_program.insert(Mode::kIpvs);
  controller_.Apply(Settings(Mode::kIpvs), model_);
  controller_.Tick(model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_THAT(controller_.state().reverted_reason, HasSubstr("no room"));
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables));
}

// The agent was killed in the middle of a handover, and what it was to is not to run any more: not
// now, or not at all.
TEST_F(ModeControllerTest, WhatIsThereOfAHandoverThatIsNotGoneOnWithDrains) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs};
  world_.cannot_run.insert(Mode::kIpvs);
  world_.connections[Mode::kIpvs] = 2;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_EQ(controller_.state().draining, Mode::kIpvs);
  EXPECT_EQ(controller_.state().draining_connections, 2U);
  world_.connections[Mode::kIpvs] = 0;
  world_.now += std::chrono::minutes(1);
  controller_.Tick(model_);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables));
  EXPECT_FALSE(controller_.state().draining);
}

TEST_F(ModeControllerTest, WhatIsThereOfAHandoverIsDrainedWhenTheSettingsGoBack) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs};
  world_.others_lack[Mode::kIpvs] = "they are not ready";
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables, Mode::kIpvs)) << "it is waited for";
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables));
}

TEST_F(ModeControllerTest, WhatIsThereOfAHandoverIsRemovedWhenAThirdModeIsAskedFor) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs};
  world_.others_lack[Mode::kIpvs] = "they are not ready";
  world_.connections[Mode::kIptables] = 1;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  controller_.Apply(Settings(Mode::kNftables), model_);
  controller_.Tick(model_);
  EXPECT_EQ(controller_.state().active, Mode::kNftables);
  EXPECT_EQ(controller_.state().draining, Mode::kIptables);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables, Mode::kNftables));
}

// It cannot be made at once.
TEST_F(ModeControllerTest, WhatIsThereOfAHandoverIsTriedAgain) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs};
  world_.others_lack[Mode::kIpvs] = "they are not ready";
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.throws["ipvs make"] = 1;
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables, Mode::kIpvs));
  world_.now += ModeController::kRetry;
  controller_.Tick(model_);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables));
}

TEST_F(ModeControllerTest, AThirdModeInTheKernelIsRemovedOnceAnotherServes) {
  world_.in_kernel = {Mode::kIptables, Mode::kIpvs, Mode::kNftables};
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(), Not(testing::Contains("nftables remove")));
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), testing::Contains("nftables remove"));
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
}

TEST_F(ModeControllerTest, RestartAdoptsAndThenChangesMode) {
  world_.in_kernel = {Mode::kIptables};
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_THAT(Calls(), ElementsAre("probe", "ipvs full", "ipvs verify", "iptables drain", "probe",
                                   "iptables drain", "iptables remove"));
}

TEST_F(ModeControllerTest, AResyncCanBeAskedForButNoFailureIsHurriedByIt) {
  kube::ProxySettings settings = Settings(Mode::kIpvs);
  settings.ipvs.sync_period = std::chrono::hours(1);
  controller_.ResyncNow();  // nothing runs yet
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), IsEmpty());
  controller_.Apply(settings, model_);
  Calls();
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), IsEmpty());
  controller_.ResyncNow();
  EXPECT_LE(controller_.NextDeadline(), world_.now);
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("ipvs full"));
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), IsEmpty());

  world_.cannot_program.insert(Mode::kIpvs);
  controller_.ResyncNow();
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("ipvs full"));
  controller_.ResyncNow();
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), IsEmpty()) << "its retry has a pace of its own";
}

// `nft flush ruleset`, firewalld's reload.
TEST_F(ModeControllerTest, RulesThatAreTakenAwayComeBackWithinASecondHoweverLongTheSyncPeriod) {
  kube::ProxySettings settings = Settings(Mode::kNftables);
  settings.nftables.sync_period = std::chrono::hours(24);
  controller_.Apply(settings, model_);
  Calls();
  Pass(3600s);
  EXPECT_THAT(Calls(), IsEmpty()) << "nothing was taken away";
  world_.flushed = true;
  Pass(1s);
  EXPECT_THAT(Calls(), ElementsAre("nftables full"));
  EXPECT_EQ(controller_.state().repaired, 1U);
  Pass(3600s);
  EXPECT_THAT(Calls(), IsEmpty());
  // And once more.
  world_.flushed = true;
  Pass(1s);
  EXPECT_THAT(Calls(), ElementsAre("nftables full"));
  EXPECT_EQ(controller_.state().repaired, 2U);
}

// What it writes for the node's new address is no repair.
TEST_F(ModeControllerTest, AChangeOfTheNodeIsNoRepair) {
  controller_.Apply(Settings(Mode::kNftables), model_);
  Calls();
  world_.flushed = true;  // so that the full sync finds differences
  ModelDelta delta;
  delta.node_changed = true;
  controller_.Sync(model_, delta);
  EXPECT_THAT(Calls(), ElementsAre("nftables full"));
  EXPECT_EQ(controller_.state().repaired, 0U);
}

// What both had, and the other one undid when it went, is set again.
TEST_F(ModeControllerTest, TheRemovalOfTheOtherModeIsNoRepair) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  controller_.Apply(Settings(Mode::kNftables), model_);
  world_.flushed = true;  // so that the full sync finds differences
  Pass(10s);
  ASSERT_FALSE(controller_.state().draining);
  EXPECT_FALSE(world_.flushed) << "it was synced";
  EXPECT_EQ(controller_.state().repaired, 0U);
  world_.flushed = true;
  Pass(3600s);
  EXPECT_EQ(controller_.state().repaired, 1U);
}

// Two agents that take each other's rules: the node must have time for something else.
TEST_F(ModeControllerTest, RulesThatAreTakenAwayAgainAndAgainAreWrittenLessOften) {
  kube::ProxySettings settings = Settings(Mode::kNftables);
  settings.nftables.sync_period = std::chrono::hours(24);
  controller_.Apply(settings, model_);
  const auto flush_for = [&](std::chrono::seconds time) {
    Calls();
    for (const auto end = world_.now + time; world_.now < end;) {
      world_.flushed = true;
      Pass(500ms);
    }
    return Calls().size();
  };
  const size_t at_first = flush_for(10s);
  EXPECT_GE(at_first, 18U);
  EXPECT_LE(flush_for(300s), 120U);
  world_.flushed = false;
  Pass(120s);
  world_.flushed = true;
  Calls();
  Pass(1s);
  EXPECT_THAT(Calls(), ElementsAre("nftables full")) << "it is at peace again";
}

TEST_F(ModeControllerTest, WhatCannotBeLookedForIsNotTakenForMissing) {
  kube::ProxySettings settings = Settings(Mode::kNftables);
  settings.nftables.sync_period = std::chrono::hours(1);
  controller_.Apply(settings, model_);
  Calls();
  world_.throws["nftables canaries"] = 3;
  world_.flushed = true;
  Pass(1500ms);
  EXPECT_THAT(Calls(), IsEmpty());
  EXPECT_THAT(controller_.steps().failing(), Contains(testing::Key("look for rules")));
  EXPECT_EQ(controller_.state().active, Mode::kNftables);
  EXPECT_FALSE(controller_.state().failed);
  Pass(1s);
  EXPECT_THAT(Calls(), ElementsAre("nftables full"));
  EXPECT_THAT(controller_.steps().failing(), IsEmpty());
}

// The pace of what fails is its own, and the full sync that comes anyway needs no look before it.
TEST_F(ModeControllerTest, NobodyLooksForRulesThatAreToBeWrittenAnyway) {
  kube::ProxySettings settings = Settings(Mode::kNftables);
  settings.nftables.sync_period = 500ms;
  controller_.Apply(settings, model_);
  Pass(120s);
  EXPECT_EQ(world_.canary_looks, 0);

  settings.nftables.sync_period = std::chrono::hours(1);
  controller_.Apply(settings, model_);
  world_.cannot_program = {Mode::kNftables};
  controller_.ResyncNow();
  controller_.Tick(model_);
  Calls();
  world_.flushed = true;
  const int looks = world_.canary_looks;
  EXPECT_EQ(controller_.NextDeadline(), world_.now + ModeController::kRetry);
  Pass(60s);
  EXPECT_EQ(world_.canary_looks, looks);
}

TEST_F(ModeControllerTest, ADataplaneIsSyncedWhenSomethingInItEnds) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.full_sync_due = world_.now + 7s;
  EXPECT_LE(controller_.NextDeadline(), world_.now + 7s);
  Calls();
  world_.now += 6s;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), IsEmpty());
  world_.now += 1s;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("ipvs full"));
  // A sync that fails is tried again at the pace of retries, however late it is.
  world_.cannot_program = {Mode::kIpvs};
  controller_.Tick(model_);
  Calls();
  EXPECT_EQ(controller_.NextDeadline(), world_.now + ModeController::kRetry);
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), IsEmpty());
}

TEST_F(ModeControllerTest, WarningsAreThoseOfTheActiveModeAsItIsNow) {
  world_.warnings = {{"default", "web", "no such scheduler"}};
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(controller_.state().warnings, world_.warnings);
  EXPECT_THAT(controller_.state().problems, IsEmpty()) << "a warning degrades no node";
  world_.warnings = {};
  ModelDelta delta;
  delta.changes.emplace_back();
  controller_.Sync(model_, delta);
  EXPECT_THAT(controller_.state().warnings, IsEmpty());
  world_.warnings = {{"default", "web", "no such scheduler"}};
  controller_.Sync(model_, delta);
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_THAT(controller_.state().warnings, IsEmpty());
}

TEST_F(ModeControllerTest, AFailedChangeIsFollowedByAFullSync) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  ModelDelta delta;
  delta.changes.emplace_back();
  world_.cannot_program.insert(Mode::kIptables);
  controller_.Sync(model_, delta);
  EXPECT_THAT(Calls(), ElementsAre("iptables sync"));
  EXPECT_EQ(controller_.state().problems.size(), 1U);
  world_.cannot_program.clear();
  world_.now += ModeController::kRetry;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("iptables full"));
  EXPECT_TRUE(controller_.state().problems.empty());
  controller_.Sync(model_, delta);
  EXPECT_THAT(Calls(), ElementsAre("iptables sync"));
}

TEST_F(ModeControllerTest, RemoveAllLeavesNothing) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.connections[Mode::kIptables] = 1;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Calls();
  EXPECT_TRUE(controller_.RemoveAll().empty());
  EXPECT_THAT(Calls(), ElementsAre("iptables remove", "ipvs remove", "base remove"));
  EXPECT_TRUE(world_.in_kernel.empty());
  EXPECT_FALSE(controller_.state().active);
}

// What carries userspace mode's connections ends with the Pod; a kernel's rules do not. Whatever
// probes would say, no mode at all is worse.
TEST_F(ModeControllerTest, AtTheEndUserspaceModeIsLeftToTheKernel) {
  controller_.Apply(Settings(Mode::kUserspace), model_);
  Calls();
  world_.probes_fail_in = Mode::kIptables;
  world_.connections[Mode::kUserspace] = 3;
  EXPECT_TRUE(controller_.LeaveToKernel(model_, 20s));
  EXPECT_THAT(Calls(), ElementsAre("iptables full", "iptables verify", "userspace drain"));
  EXPECT_EQ(controller_.state().desired, Mode::kUserspace);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
  EXPECT_EQ(controller_.state().draining, Mode::kUserspace);
  EXPECT_THAT(controller_.state().fallback_reason, HasSubstr("the agent ends"));
  world_.now += 19s;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("userspace drain"));
  world_.now += 1s;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("userspace drain", "userspace remove"));
  EXPECT_FALSE(controller_.state().draining);

  // The next agent finds iptables mode, and goes back.
  ModeController next(environment_);
  next.Apply(Settings(Mode::kUserspace), model_);
  EXPECT_EQ(next.state().active, Mode::kUserspace);
  EXPECT_THAT(next.state().fallback_reason, IsEmpty());
}

TEST_F(ModeControllerTest, AtTheEndADrainOfUserspaceModeIsShortened) {
  controller_.Apply(Settings(Mode::kUserspace), model_);
  world_.connections[Mode::kUserspace] = 3;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Calls();
  EXPECT_TRUE(controller_.LeaveToKernel(model_, 2s));
  EXPECT_THAT(Calls(), IsEmpty());
  world_.now += 2s;
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("userspace drain", "userspace remove"));
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
}

TEST_F(ModeControllerTest, AtTheEndNothingIsDoneInAModeOfTheKernel) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Calls();
  EXPECT_FALSE(controller_.LeaveToKernel(model_, 20s));
  EXPECT_THAT(Calls(), IsEmpty());
}

TEST_F(ModeControllerTest, AtTheEndUserspaceModeStaysWhereNothingElseCanRun) {
  controller_.Apply(Settings(Mode::kUserspace), model_);
  Calls();
  world_.cannot_run.insert(Mode::kIptables);
  EXPECT_FALSE(controller_.LeaveToKernel(model_, 20s));
  EXPECT_THAT(Calls(), IsEmpty());
  EXPECT_EQ(controller_.state().active, Mode::kUserspace);
}

}  // namespace
}  // namespace pointsman::agent
