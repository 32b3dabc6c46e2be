#include "e2e/scenarios/stall_watch.h"

#include <chrono>

#include <gtest/gtest.h>

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

constexpr StallWatch::Clock::time_point kStart{};

TEST(StallWatch, WhatMovesMayTakeAsLongAsItTakes) {
  StallWatch watch(10s, kStart);
  for (int step = 1; step <= 100; ++step) {
    const auto now = kStart + step * 9s;
    EXPECT_FALSE(watch.Stalled(now));
    EXPECT_TRUE(watch.Moved("step " + std::to_string(step), now));
  }
}

TEST(StallWatch, AStateThatStaysIsAStall) {
  StallWatch watch(10s, kStart);
  EXPECT_TRUE(watch.Moved("1 of 3", kStart + 5s));
  EXPECT_FALSE(watch.Moved("1 of 3", kStart + 15s));
  EXPECT_FALSE(watch.Stalled(kStart + 15s));
  EXPECT_TRUE(watch.Stalled(kStart + 16s));
  EXPECT_EQ(watch.state(), "1 of 3");
}

TEST(StallWatch, WhatNeverBeginsIsAStallToo) {
  StallWatch watch(10s, kStart);
  EXPECT_FALSE(watch.Moved("", kStart + 11s));
  EXPECT_TRUE(watch.Stalled(kStart + 11s));
}

}  // namespace
}  // namespace pointsman::e2e
