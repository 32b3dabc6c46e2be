#include "kube/pointsman/condition.h"

#include <gtest/gtest.h>

#include "kube/pointsman/limits.h"
#include "kube/pointsman/mode.h"
#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

constexpr const char* kTime1 = "2026-01-02T03:04:01Z";
constexpr const char* kTime2 = "2026-01-02T03:04:02Z";
constexpr const char* kTime3 = "2026-01-02T03:04:03Z";
constexpr const char* kTime4 = "2026-01-02T03:04:04Z";

TEST(ConditionTest, TransitionTimeMovesOnlyWithTheStatus) {
  std::vector<Condition> conditions;
  EXPECT_TRUE(SetCondition(conditions, {"A", ConditionStatus::kTrue, "R", "m", "", 1}, kTime1));
  EXPECT_FALSE(SetCondition(conditions, {"A", ConditionStatus::kTrue, "R", "m", "", 1}, kTime2));
  EXPECT_TRUE(SetCondition(conditions, {"A", ConditionStatus::kTrue, "R2", "m", "", 2}, kTime3));
  EXPECT_EQ(FindCondition(conditions, "A")->last_transition_time, kTime1);
  EXPECT_TRUE(SetCondition(conditions, {"A", ConditionStatus::kFalse, "R2", "m", "", 2}, kTime4));
  EXPECT_EQ(FindCondition(conditions, "A")->last_transition_time, kTime4);
  EXPECT_EQ(conditions.size(), 1U);
  EXPECT_FALSE(IsTrue(conditions, "A"));
  EXPECT_EQ(FindCondition(conditions, "B"), nullptr);
}

TEST(ConditionTest, WhatIsSetIsWithinTheSchemaAndStaysAsItIs) {
  std::string odd;
  while (odd.size() < 100'000)
    odd += "a\xff\x1b[2J\u3000é";
  const Condition wild{"A", ConditionStatus::kFalse, "not a reason", odd, "", -1};
  std::vector<Condition> conditions;
  EXPECT_TRUE(SetCondition(conditions, wild, kTime1));
  const Condition& set = conditions.at(0);
  EXPECT_LE(set.message.size(), limits::kMaxConditionMessage);
  EXPECT_TRUE(text::IsValidUtf8(set.message));
  EXPECT_EQ(set.reason, "Unknown");
  EXPECT_EQ(set.observed_generation, 0);
  EXPECT_NO_THROW(ToJson(wild).dump());
  // As the server gives it back: nothing to write.
  EXPECT_EQ(ConditionFromJson(ToJson(set)), set);
  EXPECT_FALSE(SetCondition(conditions, wild, kTime2));
}

TEST(ConditionTest, ATimeThatIsNoneDoesNotStay) {
  std::vector<Condition> conditions{{"A", ConditionStatus::kTrue, "R", "m", "yesterday", 1}};
  EXPECT_TRUE(SetCondition(conditions, {"A", ConditionStatus::kTrue, "R", "m", "", 1}, kTime1));
  EXPECT_EQ(conditions.at(0).last_transition_time, kTime1);
}

TEST(ConditionTest, WritesAndReadsBack) {
  const Condition condition{"A", ConditionStatus::kUnknown, "R", "m", "2026-01-02T03:04:05Z", 4};
  EXPECT_EQ(ConditionFromJson(ToJson(condition)), condition);
  EXPECT_EQ(ToJson(condition)["status"], "Unknown");
  EXPECT_EQ(ConditionFromJson(nlohmann::json::array()), Condition{});
}

TEST(ModeTest, NamesAreKubeProxys) {
  for (const Mode mode : {Mode::kUserspace, Mode::kIptables, Mode::kIpvs, Mode::kNftables}) {
    EXPECT_EQ(ParseMode(ToString(mode)), mode);
  }
  EXPECT_FALSE(ParseMode("IPVS"));
}

}  // namespace
}  // namespace pointsman::kube
