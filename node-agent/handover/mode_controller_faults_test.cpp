// What fails, once or for ever, ends no process: it is tried again, said, and something serves
// meanwhile. What concerns one family leaves the other, what concerns one Service the node.
#include <gmock/gmock.h>

#include "node-agent/handover/mode_controller_fixture.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono_literals::operator""h;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""s;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Of a move from iptables to ipvs, with clients bound by sessionAffinity, each step fails once, and
// the node gets there all the same, with nothing left behind.
class AFailingStep : public ModeControllerTest, public testing::WithParamInterface<const char*> {};

TEST_P(AFailingStep, OnceIsTriedAgainAndGetsThere) {
  world_.in_kernel = {Mode::kIptables, Mode::kNftables};
  world_.throws[GetParam()] = 1;
  controller_.Apply(Settings(Mode::kIptables), model_);
  Pass(40s);
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Pass(6min);
  EXPECT_EQ(world_.throws[GetParam()], 0) << "the step was not taken";
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIpvs));
  EXPECT_THAT(controller_.state().problems, IsEmpty());
  EXPECT_EQ(controller_.state().unfinished, "");
  EXPECT_EQ(controller_.state().reverted_reason, "");
  EXPECT_THAT(controller_.steps().failing(), IsEmpty());
}

// What is tried again and again is said, as long as it is.
TEST_P(AFailingStep, ForEverLeavesOneModeServingAndIsSaid) {
  const std::string step = GetParam();
  const auto is_said = [&] {
    const ModeState& state = controller_.state();
    return !controller_.steps().failing().empty() || !state.problems.empty() ||
           !state.reverted_reason.empty() || !state.fallback_reason.empty();
  };
  world_.in_kernel = {Mode::kIptables, Mode::kNftables};
  // From the first step on; but without the shared rules no mode could begin.
  if (step != "base") world_.throws[step] = World::kForEver;
  controller_.Apply(Settings(Mode::kIptables), model_);
  Pass(40s);
  world_.throws.try_emplace(step, World::kForEver);
  controller_.Apply(Settings(Mode::kIpvs), model_);
  Pass(30min);
  EXPECT_LT(world_.throws[step], World::kForEver) << "the step was not taken";

  const int left = world_.throws[step];
  Pass(30min);
  const ModeState& state = controller_.state();
  ASSERT_TRUE(state.active);
  EXPECT_TRUE(world_.in_kernel.contains(*state.active));
  EXPECT_EQ(is_said(), world_.throws[step] < left);
}

INSTANTIATE_TEST_SUITE_P(EachStep, AFailingStep,
                         testing::Values("ipvs preflight", "ipvs make", "ipvs full", "ipvs verify",
                                         "probe", "base", "iptables find", "ipvs find",
                                         "nftables find", "iptables make", "iptables full",
                                         "iptables verify", "iptables drain", "iptables remove",
                                         "nftables remove", "iptables preflight"));

TEST_F(ModeControllerTest, AFailureOfAModeThatIsNotWantedAnyMoreIsNotSaid) {
  for (const char* step : {"iptables preflight", "iptables make"}) {
    World world;
    world.throws[step] = World::kForEver;
    Environment environment(world);
    ModeController controller(environment);
    controller.Apply(Settings(Mode::kIptables), model_);
    EXPECT_EQ(controller.steps().failing().size(), 1U) << step;
    controller.Apply(Settings(Mode::kIpvs), model_);
    EXPECT_EQ(controller.state().active, Mode::kIpvs);
    EXPECT_THAT(controller.steps().failing(), IsEmpty()) << step;
  }
}

TEST_F(ModeControllerTest, ARemovalThatFailsIsRetriedEverMoreSeldomWhileTheNewModeServes) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.throws["iptables remove"] = World::kForEver;
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_FALSE(controller_.state().failed);
  EXPECT_THAT(controller_.steps().failing(),
              ElementsAre(testing::Pair("remove iptables", HasSubstr("no buffer space"))));
  Pass(1h);
  const auto tries = controller_.steps().failures().at("remove");
  EXPECT_GT(tries, 10U);
  EXPECT_LT(tries, 25U);
  EXPECT_FALSE(controller_.state().failed);
  ModelDelta delta;
  delta.changes.emplace_back();
  Calls();
  controller_.Sync(model_, delta);
  EXPECT_THAT(Calls(), ElementsAre("ipvs sync")) << "changes go on meanwhile";
  world_.throws.clear();
  Pass(5min);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIpvs));
  EXPECT_THAT(controller_.steps().failing(), IsEmpty());
}

TEST_F(ModeControllerTest, APreflightThatCannotBeMadeMovesNoRunningMode) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.throws["ipvs preflight"] = World::kForEver;
  kube::ProxySettings settings = Settings(Mode::kIpvs);
  settings.ipvs.scheduler = "lc";
  controller_.Apply(settings, model_);
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  EXPECT_THAT(controller_.state().preflight->message, HasSubstr("no buffer space"));
  EXPECT_FALSE(controller_.state().failed);
  Pass(1min);
  EXPECT_EQ(controller_.state().active, Mode::kIpvs);
  // It may take seconds each time, in which no change is written.
  Pass(1h);
  const auto tries = controller_.steps().failures().at("preflight of");
  EXPECT_GT(tries, 10U);
  EXPECT_LT(tries, 25U);
  world_.throws.clear();
  Pass(5min);
  EXPECT_THAT(controller_.steps().failing(), IsEmpty());
}

TEST_F(ModeControllerTest, AModeThatCouldNotBeLookedForDrainsWhenItIsFound) {
  world_.in_kernel = {Mode::kIpvs};
  world_.connections[Mode::kIpvs] = 2;
  world_.throws["ipvs find"] = 2;
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_EQ(controller_.state().active, Mode::kIptables) << "it serves meanwhile";
  Pass(20s);
  EXPECT_EQ(controller_.state().draining, Mode::kIpvs);
  world_.connections.clear();
  Pass(5s);
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kIptables));
}

TEST_F(ModeControllerTest, ADataplaneThatThrowsAndThrowsIsMadeAnew) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.throws["iptables full"] = ModeController::kThrewTooOften;
  world_.throws["iptables make"] = 1;
  controller_.ResyncNow();
  Pass(5s * (ModeController::kThrewTooOften + 2));
  EXPECT_EQ(world_.throws["iptables make"], 0);
  EXPECT_FALSE(controller_.state().failed);
}

// ---- one family

TEST_F(ModeControllerTest, OneFamilyThatCannotBeServedLeavesTheOther) {
  for (const net::Family broken : {net::Family::kIPv4, net::Family::kIPv6}) {
    World world;
    world.families = {net::Family::kIPv4, net::Family::kIPv6};
    world.base_problems = {{"the shared masquerade rules", "MARK is refused", broken}};
    world.problems[Mode::kIptables] = {{"iptables rules", "MARK is refused", broken}};
    Environment environment(world);
    ModeController controller(environment);
    controller.Apply(Settings(Mode::kIptables), model_);
    EXPECT_THAT(world.calls, ElementsAre("iptables full", "iptables verify"));
    EXPECT_TRUE(controller.state().synced_once);
    EXPECT_FALSE(controller.state().failed);
    EXPECT_EQ(controller.state().problems.size(), 2U);
    ModelDelta delta;
    delta.changes.emplace_back();
    world.calls.clear();
    controller.Sync(model_, delta);
    EXPECT_THAT(world.calls, ElementsAre("iptables sync")) << "changes of the other go on";
    // Tried again, and found to be well.
    world.base_problems.clear();
    world.problems.clear();
    world.now += ModeController::kRetry;
    controller.Tick(model_);
    EXPECT_THAT(controller.state().problems, IsEmpty());
  }
}

TEST_F(ModeControllerTest, WhenNoFamilyIsServedTheSyncFailed) {
  world_.families = {net::Family::kIPv4, net::Family::kIPv6};
  world_.problems[Mode::kIptables] = {{"rules", "refused", net::Family::kIPv4},
                                      {"rules", "refused", net::Family::kIPv6}};
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_TRUE(controller_.state().failed);
  EXPECT_FALSE(controller_.state().synced_once);
  world_.families = {net::Family::kIPv4};
  world_.problems[Mode::kIptables].pop_back();
  Pass(ModeController::kRetry);
  EXPECT_TRUE(controller_.state().failed) << "the only one there is";
}

TEST_F(ModeControllerTest, AFamilyThatWasServedIsNotLostByAHandover) {
  world_.families = {net::Family::kIPv4, net::Family::kIPv6};
  controller_.Apply(Settings(Mode::kNftables), model_);
  world_.problems[Mode::kIptables] = {{"rules", "MARK is refused", net::Family::kIPv6}};
  controller_.Apply(Settings(Mode::kIptables), model_);
  EXPECT_EQ(controller_.state().active, Mode::kNftables);
  EXPECT_THAT(controller_.state().reverted_reason,
              HasSubstr("IPv6 would no longer be served: rules: MARK is refused"));
  EXPECT_THAT(world_.in_kernel, ElementsAre(Mode::kNftables));

  // What neither mode serves holds up nobody.
  world_.problems[Mode::kNftables] = world_.problems[Mode::kIptables];
  controller_.ResyncNow();
  controller_.Tick(model_);
  Pass(ModeController::kRevertedRetry);
  EXPECT_EQ(controller_.state().active, Mode::kIptables);
}

TEST_F(ModeControllerTest, SharedRulesThatNoFamilyTakesLeaveTheFallbackToBeTried) {
  kube::ProxySettings settings = Settings(Mode::kIptables);
  settings.fallback_modes = {Mode::kNftables};
  world_.throws["base"] = 1;  // of iptables; nftables needs none
  controller_.Apply(settings, model_);
  EXPECT_EQ(controller_.state().active, Mode::kNftables);
  EXPECT_THAT(controller_.state().fallback_reason, HasSubstr("no buffer space for base"));
}

TEST_F(ModeControllerTest, WhatTheEnvironmentCanDoMoreIsUsedAtTheNextResync) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.throws["iptables make"] = 1;
  ++world_.generation;
  controller_.ResyncNow();
  controller_.Tick(model_);
  EXPECT_EQ(world_.throws["iptables make"], 0) << "made anew";
}

// ---- one Service

TEST_F(ModeControllerTest, WhatIsRefusedOfOneServiceIsAWarningOfThatService) {
  AddEntry("web");
  const ServicePortId hostile = AddEntry("hostile");
  world_.refusals[Mode::kIpvs].Add(hostile, "Hash is full");
  controller_.Apply(Settings(Mode::kIpvs), model_);
  const ModeState& state = controller_.state();
  EXPECT_FALSE(state.failed);
  EXPECT_THAT(state.problems, IsEmpty());
  EXPECT_THAT(state.warnings,
              ElementsAre(ServiceWarning{"default", "hostile",
                                         "default/hostile:http/TCP/IPv4: Hash is full"}));
  EXPECT_EQ(state.refused_entries, 1U);

  // Another's change is a partial sync, and the warning stays.
  world_.refusals.clear();
  Calls();
  controller_.Sync(model_, ChangeOf(model_.entries.begin()->first == hostile
                                        ? std::next(model_.entries.begin())->first
                                        : model_.entries.begin()->first));
  EXPECT_THAT(Calls(), ElementsAre("ipvs sync"));
  EXPECT_EQ(state.warnings.size(), 1U);
  controller_.Sync(model_, ChangeOf(hostile));
  EXPECT_THAT(state.warnings, IsEmpty()) << "it was written anew, and taken";
}

TEST_F(ModeControllerTest, WhatIsRefusedOfOneServiceIsTriedAgainEverMoreSeldom) {
  AddEntry("web");
  kube::ProxySettings settings = Settings(Mode::kIpvs);
  settings.ipvs.sync_period = std::chrono::minutes(10);
  controller_.Apply(settings, model_);
  const ServicePortId hostile = AddEntry("hostile");
  world_.refusals[Mode::kIpvs].Add(hostile, "Hash is full");
  controller_.Sync(model_, ChangeOf(hostile));
  EXPECT_LE(controller_.NextDeadline(), world_.now + ModeController::kRetry);
  Calls();
  Pass(1h);
  EXPECT_LT(Calls().size(), 20U);
  world_.refusals.clear();
  Pass(10min);
  EXPECT_THAT(controller_.state().warnings, IsEmpty());
}

TEST_F(ModeControllerTest, WhenEveryServiceIsRefusedTheSyncFailed) {
  world_.refusals[Mode::kIpvs].Add(AddEntry("web"), "Cannot allocate memory");
  world_.refusals[Mode::kIpvs].Add(AddEntry("kubernetes"), "Cannot allocate memory");
  controller_.Apply(Settings(Mode::kIpvs), model_);
  EXPECT_TRUE(controller_.state().failed);
}

// ---- drains

TEST_F(ModeControllerTest, ALookAtADrainTakesATenthOfTheTimeAtMost) {
  kube::ProxySettings settings = Settings(Mode::kIpvs);
  settings.ipvs.sync_period = 1h;
  controller_.Apply(Settings(Mode::kIptables), model_);
  world_.connections[Mode::kIptables] = 1'000'000;
  world_.dump = 3s;
  controller_.Apply(settings, model_);
  Calls();
  Pass(29s);
  EXPECT_THAT(Calls(), IsEmpty());
  Pass(1s);
  EXPECT_THAT(Calls(), ElementsAre("iptables drain"));
  const auto begin = world_.now;
  Pass(100s);
  const auto calls = Calls();
  EXPECT_LE(std::count(calls.begin(), calls.end(), "iptables drain") * 3s,
            (world_.now - begin) / 10 + 3s);
  // A change does not wait for the next look, and asks for none.
  ModelDelta delta;
  delta.changes.emplace_back();
  controller_.Sync(model_, delta);
  controller_.Tick(model_);
  EXPECT_THAT(Calls(), ElementsAre("ipvs sync"));
  // Nor does the drain outlast its time.
  world_.dump = 200s;
  Pass(1min);
  Pass(10min);
  EXPECT_FALSE(controller_.state().draining);
}

}  // namespace
}  // namespace pointsman::agent
