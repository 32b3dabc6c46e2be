#include "kube/pointsman/condition.h"

#include <gtest/gtest.h>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/timestamp.h"

namespace pointsman::kube {
namespace {

TEST(ConditionTest, TransitionTimeMovesOnlyWithTheStatus) {
  std::vector<Condition> conditions;
  EXPECT_TRUE(SetCondition(conditions, {"A", ConditionStatus::kTrue, "R", "m", "", 1}, "t1"));
  EXPECT_FALSE(SetCondition(conditions, {"A", ConditionStatus::kTrue, "R", "m", "", 1}, "t2"));
  EXPECT_TRUE(SetCondition(conditions, {"A", ConditionStatus::kTrue, "R2", "m", "", 2}, "t3"));
  EXPECT_EQ(FindCondition(conditions, "A")->last_transition_time, "t1");
  EXPECT_TRUE(SetCondition(conditions, {"A", ConditionStatus::kFalse, "R2", "m", "", 2}, "t4"));
  EXPECT_EQ(FindCondition(conditions, "A")->last_transition_time, "t4");
  EXPECT_EQ(conditions.size(), 1U);
  EXPECT_FALSE(IsTrue(conditions, "A"));
  EXPECT_EQ(FindCondition(conditions, "B"), nullptr);
}

TEST(ConditionTest, WritesAndReadsBack) {
  const Condition condition{"A", ConditionStatus::kUnknown, "R", "m", "2026-01-02T03:04:05Z", 4};
  EXPECT_EQ(ConditionFromJson(ToJson(condition)), condition);
  EXPECT_EQ(ToJson(condition)["status"], "Unknown");
  EXPECT_EQ(ConditionFromJson(nlohmann::json::array()), Condition{});
}

TEST(TimestampTest, WritesAndReadsRfc3339) {
  const auto time = ParseTime("2026-02-28T23:59:59Z");
  ASSERT_TRUE(time);
  EXPECT_EQ(FormatTime(*time), "2026-02-28T23:59:59Z");
  EXPECT_EQ(FormatTime(*time + std::chrono::seconds(1)), "2026-03-01T00:00:00Z");
  EXPECT_EQ(ParseTime("2026-02-28T23:59:59.123456Z"), time);
  EXPECT_EQ(ParseTime("2026-03-01T01:59:59+02:00"), time);
  EXPECT_EQ(ParseTime("2026-02-28T18:29:59-05:30"), time);
  for (const char* bad :
       {"", "2026-02-30T00:00:00Z", "2026-02-28", "2026-02-28T00:00:00", "2026-02-28T24:00:00Z",
        "2026-02-28T00:00:00Zx", "2026-02-28T00:00:00.Z"}) {
    EXPECT_FALSE(ParseTime(bad)) << bad;
  }
}

TEST(ModeTest, NamesAreKubeProxys) {
  for (const Mode mode : {Mode::kUserspace, Mode::kIptables, Mode::kIpvs, Mode::kNftables}) {
    EXPECT_EQ(ParseMode(ToString(mode)), mode);
  }
  EXPECT_FALSE(ParseMode("IPVS"));
}

}  // namespace
}  // namespace pointsman::kube
