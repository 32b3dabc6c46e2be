#include "node-agent/agent/mode_preflights.h"

#include <gmock/gmock.h>

#include "node-agent/handover/mode_controller_fixture.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using ::testing::HasSubstr;

class ModePreflightsTest : public ModeControllerTest {
 protected:
  kube::ModePreflight Of(const std::string& mode) const {
    for (const kube::ModePreflight& answer : preflights_.answers()) {
      if (answer.mode == mode) return answer;
    }
    throw std::runtime_error("no answer for " + mode);
  }
  ModePreflights preflights_{environment_, controller_.state()};
};

TEST_F(ModePreflightsTest, EveryModeIsAnsweredAndNothingIsDoneForIt) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  world_.refused = {Mode::kIpvs};
  preflights_.Look(Settings(Mode::kIptables));
  EXPECT_EQ(preflights_.answers().size(), 4U);
  EXPECT_TRUE(Of("iptables").passed);
  EXPECT_FALSE(Of("ipvs").passed);
  EXPECT_THAT(Of("ipvs").message, HasSubstr("azure-npm"));
  EXPECT_THAT(Calls(), ::testing::IsEmpty());
}

TEST_F(ModePreflightsTest, WhatTheAnswersDependOnIsAskedAgainAtOnceAndTheRestInTime) {
  kube::ProxySettings settings = Settings(Mode::kIptables);
  world_.refused = {Mode::kIpvs};
  preflights_.Look(settings);
  world_.refused = {};
  preflights_.Look(settings);
  EXPECT_FALSE(Of("ipvs").passed) << "it is not due yet";
  world_.now += ModePreflights::kPeriod;
  preflights_.Look(settings);
  EXPECT_TRUE(Of("ipvs").passed);

  world_.refused = {Mode::kIpvs};
  settings.neighbours.accept = {"azure-npm"};
  preflights_.Look(settings);
  EXPECT_TRUE(Of("ipvs").passed) << "it is accepted";
  settings.neighbours.accept = {};
  preflights_.Look(settings);
  EXPECT_FALSE(Of("ipvs").passed);
}

// A neighbour that came while the mode ran takes nothing away.
TEST_F(ModePreflightsTest, TheModeThatServesCouldGoOn) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.refused = {Mode::kIpvs};
  preflights_.Look(Settings(Mode::kIpvs));
  EXPECT_TRUE(Of("ipvs").passed);
  EXPECT_THAT(Of("ipvs").message, HasSubstr("azure-npm"));
}

TEST_F(ModePreflightsTest, APreflightThatCannotBeMadeIsANoWithItsReason) {
  world_.throws["ipvs preflight"] = World::kForEver;
  preflights_.Look(Settings(Mode::kIptables));
  EXPECT_FALSE(Of("ipvs").passed);
  EXPECT_EQ(Of("ipvs").reason, "PreflightFailed");
  EXPECT_THAT(Of("ipvs").message, HasSubstr("could not be made"));
  EXPECT_TRUE(Of("iptables").passed) << "the others are answered";
}

}  // namespace
}  // namespace pointsman::agent
