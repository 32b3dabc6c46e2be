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

TEST_F(CandidateCheckTest, IsAskedOnceForEachQuestion) {
  kube::NodeProxySpec spec;
  EXPECT_FALSE(check_.Check(spec));
  spec.candidate = kube::NodeProxyCandidate{.revision = 2, .mode = Mode::kIpvs};
  EXPECT_TRUE(check_.Check(spec));
  EXPECT_FALSE(check_.Check(spec));
  spec.candidate->neighbours.accept = {"vrf"};
  EXPECT_TRUE(check_.Check(spec));
}

}  // namespace
}  // namespace pointsman::agent
