#include "e2e/traffic/histogram.h"

#include <gtest/gtest.h>

namespace pointsman::e2e {
namespace {

TEST(HistogramTest, QuantilesAreWithinTwoPercentOfTheTruth) {
  Histogram histogram;
  for (int us = 1; us <= 100'000; ++us)
    histogram.Add(std::chrono::microseconds(us));
  for (const double quantile : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const double truth = quantile * 100;
    EXPECT_GE(histogram.QuantileMs(quantile), truth) << quantile;
    EXPECT_LE(histogram.QuantileMs(quantile), truth * 1.02) << quantile;
  }
  EXPECT_DOUBLE_EQ(histogram.QuantileMs(1), 100);
  EXPECT_DOUBLE_EQ(histogram.MaxMs(), 100);
  EXPECT_NEAR(histogram.MeanMs(), 50, 0.01);
}

TEST(HistogramTest, TakesWhatIsOutsideItsRange) {
  Histogram histogram;
  EXPECT_EQ(histogram.QuantileMs(0.5), 0);
  histogram.Add(std::chrono::hours(24 * 365));
  histogram.Add(std::chrono::nanoseconds(-5));
  EXPECT_EQ(histogram.count(), 2U);
  EXPECT_EQ(histogram.QuantileMs(0.5), 0);
}

}  // namespace
}  // namespace pointsman::e2e
