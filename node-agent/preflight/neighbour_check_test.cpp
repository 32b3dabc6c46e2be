#include "node-agent/preflight/neighbour_check.h"

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using kube::Mode;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NeighbourCheckTest : public ::testing::Test {
 protected:
  PreflightResult passed_{
      .passed = true, .reason = "PreflightPassed", .message = "kernel 6.1 has what it needs"};
};

TEST_F(NeighbourCheckTest, WithoutNeighboursNothingChanges) {
  PreflightResult result = passed_;
  AddNeighbours({}, {}, Mode::kIpvs, result);
  EXPECT_TRUE(result.passed);
  EXPECT_EQ(result.message, passed_.message);
  EXPECT_THAT(result.warnings, IsEmpty());
}

TEST_F(NeighbourCheckTest, ARefusalFailsThePreflightAndAWarningDoesNot) {
  PreflightResult result = passed_;
  AddNeighbours({.refusals = {"azure-npm: why"}, .warnings = {"vrf: how"}}, {}, Mode::kIpvs,
                result);
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.reason, "NeighbourRefused");
  EXPECT_THAT(result.message, AllOf(HasSubstr("mode ipvs is refused"), HasSubstr("azure-npm")));
  EXPECT_THAT(result.warnings, ElementsAre("vrf: how"));

  result = passed_;
  AddNeighbours({.warnings = {"vrf: how"}}, {}, Mode::kIpvs, result);
  EXPECT_TRUE(result.passed);
  EXPECT_EQ(result.message, "kernel 6.1 has what it needs; but: vrf: how");
}

// Who mends the one finds the other at once, and not on the next try.
TEST_F(NeighbourCheckTest, WhatElseIsMissingStaysTheReason) {
  PreflightResult result{.reason = "ModuleMissing", .message = "no ip_vs"};
  AddNeighbours({.refusals = {"azure-npm: why"}}, {}, Mode::kIpvs, result);
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.reason, "ModuleMissing");
  EXPECT_THAT(result.message, AllOf(HasSubstr("no ip_vs"), HasSubstr("azure-npm")));
  PassWhatRuns(Mode::kIpvs, result);
  EXPECT_FALSE(result.passed);
}

TEST_F(NeighbourCheckTest, WhatCouldNotBeLookedAtIsSaid) {
  PreflightResult result = passed_;
  AddNeighbours({}, {"nf_tables: not permitted"}, Mode::kIpvs, result);
  EXPECT_TRUE(result.passed);
  EXPECT_THAT(result.message,
              AllOf(HasSubstr("is not fully known"), HasSubstr("nf_tables: not permitted")));
}

TEST_F(NeighbourCheckTest, WhatRunsGoesOn) {
  PreflightResult result = passed_;
  AddNeighbours({.refusals = {"azure-npm: why"}}, {}, Mode::kIpvs, result);
  PassWhatRuns(Mode::kIpvs, result);
  EXPECT_TRUE(result.passed);
  EXPECT_EQ(result.reason, "PreflightPassed");
  EXPECT_THAT(result.message, AllOf(HasSubstr("goes on"), HasSubstr("azure-npm")));
  EXPECT_THAT(result.warnings, ElementsAre(HasSubstr("azure-npm")));
}

}  // namespace
}  // namespace pointsman::agent
