#include "node-agent/status/change_meter.h"

#include <gtest/gtest.h>

#include "node-agent/status/status_builder.h"

namespace pointsman::agent {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ChangeMeterTest, TimesAreRoundedUpToAFewSteps) {
  EXPECT_EQ(RoundedMilliseconds(microseconds(0)), 1);
  EXPECT_EQ(RoundedMilliseconds(microseconds(900)), 1);
  EXPECT_EQ(RoundedMilliseconds(microseconds(1001)), 2);
  EXPECT_EQ(RoundedMilliseconds(milliseconds(3)), 5);
  EXPECT_EQ(RoundedMilliseconds(milliseconds(21)), 50);
  EXPECT_EQ(RoundedMilliseconds(seconds(10)), 10'000);
  EXPECT_EQ(RoundedMilliseconds(milliseconds(10'001)), 20'000);
  EXPECT_GT(RoundedMilliseconds(std::chrono::nanoseconds::max()), 1'000'000'000);
}

class ChangeMeterFiguresTest : public testing::Test {
 protected:
  void Syncs(size_t count, milliseconds time) {
    for (size_t i = 0; i < count; ++i)
      meter_.SyncTook(time);
  }
  kube::ChangeImpact Report(size_t refused = 0) {
    return meter_.Report(/*in_effect=*/true, refused, toll_).value();
  }
  ChangeMeter meter_;
  HandoverToll toll_;
};

TEST_F(ChangeMeterFiguresTest, NothingIsSaidBeforeARevisionIsAskedFor) {
  meter_.Continue(0, std::nullopt, toll_);
  EXPECT_FALSE(meter_.Report(false, 3, toll_));
  meter_.Begin(1, std::nullopt, toll_);
  EXPECT_EQ(Report(3),
            (kube::ChangeImpact{.revision = 1, .cut_connections = 0, .refused_after = 3}));
}

TEST_F(ChangeMeterFiguresTest, WhatIsNotInEffectHasNoServicesAndNoTimes) {
  meter_.Begin(2, 1, toll_);
  Syncs(10, milliseconds(7));
  const auto watched = meter_.Report(/*in_effect=*/false, 5, toll_).value();
  EXPECT_EQ(watched.refused_before, 1);
  EXPECT_FALSE(watched.refused_after);
  EXPECT_FALSE(watched.sync_after);
  EXPECT_EQ(Report(4).refused_after, 4);
  EXPECT_FALSE(Report(4).sync_after) << "those were of the mode before, too";
  // What somebody writes into a Service afterwards is not the change's doing.
  EXPECT_EQ(Report(9).refused_after, 4);
}

TEST_F(ChangeMeterFiguresTest, TheMedianOfTheSyncsIsToldAndThatOfBefore) {
  meter_.Begin(1, std::nullopt, toll_);
  Report();
  Syncs(ChangeMeter::kFewestSyncs - 1, milliseconds(4));
  EXPECT_FALSE(Report().sync_after);
  Syncs(2, seconds(30));  // two of seven
  Syncs(1, milliseconds(4));
  EXPECT_EQ(Report().sync_after, 5);
  meter_.Begin(2, 0, toll_);
  EXPECT_EQ(Report().sync_before, 5);
  EXPECT_FALSE(Report().sync_after);
  Syncs(ChangeMeter::kSyncs, seconds(3));
  EXPECT_EQ(Report().sync_after, 5000);
  Syncs(ChangeMeter::kSyncs / 2 + 1, milliseconds(1));
  EXPECT_EQ(Report().sync_after, 1) << "of the last ones";
}

TEST_F(ChangeMeterFiguresTest, StepsOfAHandoverAddUpAndOthersDoNotCount) {
  toll_ = {.traffic = {100, 1, 100, 50}, .cut_connections = 7};  // of earlier ones
  meter_.Begin(3, 0, toll_);
  EXPECT_FALSE(Report().connections_after);
  EXPECT_EQ(Report().cut_connections, 0);
  toll_.traffic.Add({40, 2, 80, 3});
  toll_.traffic.Add({10, 0, 20, 1});
  toll_.cut_connections += 5;
  for (int i = 0; i < 2; ++i) {
    const kube::ChangeImpact impact = Report();
    EXPECT_EQ(impact.connections_before, 50);
    EXPECT_EQ(impact.failed_before, 2);
    EXPECT_EQ(impact.connections_after, 100);
    EXPECT_EQ(impact.failed_after, 4);
    EXPECT_EQ(impact.cut_connections, 5);
  }
}

// A restarted agent counts from 0 again, and its predecessor's figures are in the status.
TEST_F(ChangeMeterFiguresTest, ARestartedAgentGoesOn) {
  const kube::ChangeImpact before{.revision = 3,
                                  .connections_before = 50,
                                  .failed_before = 2,
                                  .connections_after = 100,
                                  .failed_after = 4,
                                  .cut_connections = 5,
                                  .refused_before = 1,
                                  .refused_after = 2,
                                  .sync_before = 1,
                                  .sync_after = 2};
  meter_.Continue(3, before, toll_);
  EXPECT_EQ(Report(9), before);
  toll_.traffic.Add({10, 0, 20, 1});
  toll_.cut_connections = 3;
  EXPECT_EQ(Report(9).failed_after, 5);
  EXPECT_EQ(Report(9).cut_connections, 8);
  // Another revision was asked for while it was not there.
  ChangeMeter other;
  other.Continue(4, before, toll_);
  const auto begun = other.Report(true, 0, toll_).value();
  EXPECT_EQ(begun.revision, 4);
  EXPECT_EQ(begun.cut_connections, 0);
  EXPECT_FALSE(begun.refused_before) << "nobody looked";
  EXPECT_EQ(begun.sync_before, 2);
}

// The first figure is written soon, and what changes a little later with what else is to be said.
TEST(ChangeMeterStatusTest, ATimeThatChangesIsNoSubstance) {
  kube::NodeProxyStatus before;
  before.impact = kube::ChangeImpact{.revision = 1, .cut_connections = 0};
  kube::NodeProxyStatus after = before;
  after.impact->sync_after = 5;
  EXPECT_TRUE(DiffersInSubstance(before, after));
  before = after;
  after.impact->sync_after = 10;
  EXPECT_FALSE(DiffersInSubstance(before, after));
  after.impact->cut_connections = 1;
  EXPECT_TRUE(DiffersInSubstance(before, after));
}

}  // namespace
}  // namespace pointsman::agent
