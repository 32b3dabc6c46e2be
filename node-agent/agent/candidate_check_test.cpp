#include "node-agent/agent/candidate_check.h"

#include <gmock/gmock.h>

#include "node-agent/handover/mode_controller_fixture.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using ::testing::HasSubstr;

class CandidateCheckTest : public ModeControllerTest {
 protected:
  kube::CandidateStatus AnswerFor(kube::NodeProxyCandidate candidate) {
    kube::NodeProxySpec spec;
    spec.candidate = std::move(candidate);
    check_.Check(spec);
    return check_.answer().value();
  }
  Steps steps_;
  CandidateCheck check_{environment_, steps_, controller_.state()};
};

TEST_F(CandidateCheckTest, ARefusedModeIsAnsweredBeforeAnythingChanges) {
  controller_.Apply(Settings(Mode::kIptables), model_);
  Calls();
  world_.refused = {Mode::kIpvs};
  const auto answer = AnswerFor({.revision = 2, .mode = Mode::kIpvs});
  EXPECT_FALSE(answer.passed);
  EXPECT_EQ(answer.mode, "");
  EXPECT_THAT(answer.message, HasSubstr("azure-npm"));
  const auto with_fallback =
      AnswerFor({.revision = 3, .mode = Mode::kIpvs, .fallback_modes = {Mode::kIptables}});
  EXPECT_FALSE(with_fallback.passed);
  EXPECT_EQ(with_fallback.mode, "iptables");
  EXPECT_THAT(Calls(), ::testing::IsEmpty());
}

TEST_F(CandidateCheckTest, WhatIsAcceptedIsPartOfTheQuestion) {
  world_.refused = {Mode::kIpvs};
  kube::NodeProxyCandidate candidate{.revision = 2, .mode = Mode::kIpvs};
  EXPECT_FALSE(AnswerFor(candidate).passed);
  candidate.neighbours.accept = {"azure-npm"};
  EXPECT_TRUE(AnswerFor(candidate).passed);
}

// A change of other settings is not held up by a neighbour that came while the mode ran.
TEST_F(CandidateCheckTest, TheModeThatServesWouldGoOn) {
  controller_.Apply(Settings(Mode::kIpvs), model_);
  world_.refused = {Mode::kIpvs};
  const auto answer = AnswerFor({.revision = 2, .mode = Mode::kIpvs});
  EXPECT_TRUE(answer.passed);
  EXPECT_EQ(answer.mode, "ipvs");
  EXPECT_THAT(answer.message, HasSubstr("azure-npm"));
}

// A stock kube-proxy finds the modules there, has its neighbours already, and falls back to
// nothing.
TEST_F(CandidateCheckTest, WithProviderKubeProxyModulesAreLoadedAndNeighboursAccepted) {
  world_.refused = {Mode::kIpvs};
  kube::NodeProxyCandidate candidate{.revision = 2, .mode = Mode::kIpvs};
  EXPECT_FALSE(AnswerFor(candidate).passed);
  EXPECT_FALSE(world_.loaded);
  candidate.provider = kube::Provider::kKubeProxy;
  const auto answer = AnswerFor(candidate);
  EXPECT_TRUE(answer.passed) << answer.message;
  EXPECT_EQ(answer.provider, kube::Provider::kKubeProxy);
  EXPECT_TRUE(world_.loaded);
}

TEST_F(CandidateCheckTest, KubeProxysModeNftablesNeedsANewerKernel) {
  world_.kernel_release = "5.10.0-28-amd64";
  kube::NodeProxyCandidate candidate{.revision = 2, .mode = Mode::kNftables};
  EXPECT_TRUE(AnswerFor(candidate).passed);
  candidate.provider = kube::Provider::kKubeProxy;
  const auto answer = AnswerFor(candidate);
  EXPECT_FALSE(answer.passed);
  EXPECT_THAT(answer.message, HasSubstr("needs 5.13"));
}

TEST_F(CandidateCheckTest, IsAskedOnceForEachQuestion) {
  kube::NodeProxySpec spec;
  EXPECT_FALSE(check_.Check(spec));
  spec.candidate = kube::NodeProxyCandidate{.revision = 2, .mode = Mode::kIpvs};
  EXPECT_TRUE(check_.Check(spec));
  EXPECT_FALSE(check_.Check(spec));
  spec.candidate->neighbours.accept = {"vrf"};
  EXPECT_TRUE(check_.Check(spec));
}

// What could not be looked at (no memory, no netlink socket) is looked at again, less and less
// often and never less than the longest retry allows; another question begins at once and from the
// start.
TEST_F(CandidateCheckTest, WhatCouldNotBeAnsweredIsTriedAgainLessAndLessOften) {
  kube::NodeProxySpec spec;
  spec.candidate = kube::NodeProxyCandidate{.revision = 2, .mode = Mode::kIpvs};
  world_.throws["ipvs preflight"] = World::kForEver;
  const auto wait_after_check = [&] {
    EXPECT_TRUE(check_.Check(spec));
    EXPECT_FALSE(check_.answer()->passed);
    EXPECT_FALSE(check_.Check(spec)) << "it is not due yet";
    return check_.due() - world_.now;
  };
  const auto first = wait_after_check();
  EXPECT_EQ(first, ModeController::kPreflightRetry);
  auto last = first;
  for (int i = 0; i < 20; ++i) {
    world_.now = check_.due();
    const auto next = wait_after_check();
    EXPECT_GE(next, last);
    EXPECT_LE(next, ModeController::kLongestRetry);
    last = next;
  }
  EXPECT_EQ(last, ModeController::kLongestRetry);

  spec.candidate->revision = 3;
  EXPECT_EQ(wait_after_check(), first);
  world_.throws.clear();
  world_.now = check_.due();
  EXPECT_TRUE(check_.Check(spec));
  EXPECT_TRUE(check_.answer()->passed);
  EXPECT_EQ(check_.due(), CandidateCheck::TimePoint::max()) << "nothing is left to be tried";
}

}  // namespace
}  // namespace pointsman::agent
