#include "kube/client/rate_limiter.h"

#include <cmath>
#include <future>
#include <stdexcept>

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using Clock = RateLimiter::Clock;

TEST(RateLimiter, ABurstAtOnceAndThenOneATick) {
  RateLimiter limiter(5, 10);
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(limiter.Reserve(begin), nanoseconds(0)) << i;
  // Each of those that come then waits 200 ms longer than the one before.
  for (int i = 1; i <= 5; ++i)
    EXPECT_EQ(limiter.Reserve(begin), milliseconds(200) * i) << i;
}

TEST(RateLimiter, TheBucketFillsWithTimeButNeverOver) {
  RateLimiter limiter(5, 10);
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < 10; ++i)
    limiter.Reserve(begin);
  EXPECT_EQ(limiter.Reserve(begin + milliseconds(400)), nanoseconds(0));
  EXPECT_EQ(limiter.Reserve(begin + milliseconds(400)), nanoseconds(0));
  EXPECT_GT(limiter.Reserve(begin + milliseconds(400)), nanoseconds(0));
  // After an hour there are ten again, not 18,000.
  const Clock::time_point later = begin + std::chrono::hours(1);
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(limiter.Reserve(later), nanoseconds(0)) << i;
  EXPECT_EQ(limiter.Reserve(later), milliseconds(200));
}

TEST(RateLimiter, AFractionOfARequestASecond) {
  RateLimiter limiter(0.5, 1);
  const Clock::time_point begin = Clock::now();
  EXPECT_EQ(limiter.Reserve(begin), nanoseconds(0));
  EXPECT_EQ(limiter.Reserve(begin), seconds(2));
  EXPECT_EQ(limiter.Reserve(begin), seconds(4));
}

TEST(RateLimiter, WaitsForItsTime) {
  RateLimiter limiter(20, 1);
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(limiter.Wait({}));
  EXPECT_GE(Clock::now() - begin, milliseconds(200));
}

TEST(RateLimiter, AStopEndsTheWaitAndGivesTheTokenBack) {
  RateLimiter limiter(0.01, 1);
  EXPECT_TRUE(limiter.Wait({}));
  std::stop_source stop;
  auto waiting = std::async(std::launch::async, [&] { return limiter.Wait(stop.get_token()); });
  stop.request_stop();
  EXPECT_FALSE(waiting.get());
  // 100 s for the next one, and not 200.
  EXPECT_LE(limiter.Reserve(Clock::now()), seconds(100));
}

TEST(RateLimiter, RefusesWhatIsNoRate) {
  EXPECT_THROW(RateLimiter(0, 1), std::invalid_argument);
  EXPECT_THROW(RateLimiter(-1, 1), std::invalid_argument);
  EXPECT_THROW(RateLimiter(std::nan(""), 1), std::invalid_argument);
  EXPECT_THROW(RateLimiter(1, 0), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::kube
