#include "e2e/conformance/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::e2e {
namespace {

using testing::HasSubstr;

Attempt Answered(const std::string& backend, const std::string& source) {
  return {true, backend, source + ":4711", "", 2};
}
Attempt Failed(const std::string& error, double ms = 1) {
  return {false, "", "", error, ms};
}

TEST(JudgeTest, EachOfTheBackendsHasToAnswerAndNobodyElse) {
  Expectation expect;
  expect.answered_by = {"a", "b"};
  const AllowedSources any;
  EXPECT_EQ(Judge(expect, any, {Answered("a", "1.1.1.1"), Answered("b", "1.1.1.1")}), "");
  EXPECT_NE(Judge(expect, any, {Answered("a", "1.1.1.1")}), "") << "b never answered";
  EXPECT_NE(Judge(expect, any,
                  {Answered("a", "1.1.1.1"), Answered("b", "1.1.1.1"), Answered("c", "1.1.1.1")}),
            "");
  EXPECT_NE(
      Judge(expect, any, {Answered("a", "1.1.1.1"), Answered("b", "1.1.1.1"), Failed("timeout")}),
      "");
  EXPECT_NE(Judge(expect, any, {}), "");
  expect.every_one = false;
  EXPECT_EQ(Judge(expect, any, {Answered("a", "1.1.1.1")}), "");
}

TEST(JudgeTest, SourceAndAffinity) {
  Expectation expect;
  expect.answered_by = {"a", "b"};
  expect.source = "client";
  expect.same_backend = true;
  const AllowedSources client{"client", {"fd00::1", "10.0.0.1"}};
  EXPECT_EQ(Judge(expect, client, {Answered("a", "10.0.0.1"), Answered("a", "[fd00::1]")}), "");
  const std::string wrong = Judge(expect, client, {Answered("a", "10.0.0.2")});
  EXPECT_THAT(wrong, HasSubstr("source client (fd00::1 or 10.0.0.1)"));
  EXPECT_THAT(wrong, HasSubstr("1 by a (source 10.0.0.2)"));
  EXPECT_NE(Judge(expect, client, {Answered("a", "10.0.0.1"), Answered("b", "10.0.0.1")}), "");
}

TEST(JudgeTest, RefusedIsNotATimeOutAndNotLate) {
  Expectation expect;
  expect.kind = Expectation::Kind::kRefused;
  EXPECT_EQ(Judge(expect, {}, {Failed("refused"), Failed("icmp-port-unreachable")}), "");
  EXPECT_NE(Judge(expect, {}, {Failed("timeout", 700)}), "");
  EXPECT_NE(Judge(expect, {}, {Failed("refused", 4500)}), "");
  EXPECT_NE(Judge(expect, {}, {Answered("a", "1.1.1.1")}), "");
  expect.kind = Expectation::Kind::kDropped;
  EXPECT_EQ(Judge(expect, {}, {Failed("timeout", 700)}), "");
  EXPECT_NE(Judge(expect, {}, {Failed("refused")}), "");
  expect.kind = Expectation::Kind::kUnanswered;
  EXPECT_EQ(Judge(expect, {}, {Failed("refused"), Failed("timeout")}), "");
  EXPECT_NE(Judge(expect, {}, {Failed("refused"), Answered("a", "1.1.1.1")}), "");
}

TEST(JudgeTest, EnoughAttemptsToSeeEach) {
  EXPECT_EQ(AttemptsToSeeEach(1), 1);
  EXPECT_GE(AttemptsToSeeEach(2), 20);
  EXPECT_GE(AttemptsToSeeEach(4), 50);
  EXPECT_LE(AttemptsToSeeEach(4), 60);
}

TEST(JudgeTest, ReadsTheProbersReports) {
  const auto attempts =
      ParseAttempts(R"({"ok":true,"backend":"a","seen_source":"1.1.1.1:2","error":"","ms":1.5})"
                    "\n"
                    R"({"ok":false,"backend":"","seen_source":"","error":"timeout","ms":700})"
                    "\n");
  ASSERT_EQ(attempts.size(), 2U);
  EXPECT_EQ(attempts[0].backend, "a");
  EXPECT_EQ(attempts[1].error, "timeout");
  EXPECT_THROW(ParseAttempts("no such program"), std::runtime_error);
}

}  // namespace
}  // namespace pointsman::e2e
