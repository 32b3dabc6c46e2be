#include "node-agent/dataplane/use_counts.h"

#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Counts = UseCounts<std::map<std::string, int64_t>>;

TEST(UseCounts, ThereFromTheFirstUserToTheLast) {
  Counts counts;
  Counts first;
  first.Add("vip", 1);
  EXPECT_THAT(counts.Apply(first).came, ElementsAre("vip"));
  EXPECT_TRUE(counts.Apply(first).empty());
  EXPECT_EQ(counts.begin()->second, 2);
  Counts last;
  last.Add("vip", -2);
  EXPECT_THAT(counts.Apply(last).went, ElementsAre("vip"));
  EXPECT_FALSE(counts.Contains("vip"));
}

TEST(UseCounts, WhatPassesFromOneUserToAnotherIsNoChange) {
  Counts counts;
  counts.Add("vip", 1);
  for (const int64_t by : {1, -1}) {  // either may be counted first
    Counts delta;
    delta.Add("vip", by);
    delta.Add("other", by);
    delta.Add("vip", -by);
    const Counts::Changes changes = counts.Apply(delta);
    EXPECT_THAT(by > 0 ? changes.came : changes.went, ElementsAre("other"));
    EXPECT_THAT(by > 0 ? changes.went : changes.came, IsEmpty());
  }
  EXPECT_EQ(counts.size(), 1U);
  EXPECT_EQ(counts.begin()->second, 1);
}

}  // namespace
}  // namespace pointsman::agent
