#include "kube/queue/work_queue.h"

#include <atomic>
#include <future>
#include <thread>

#include <gtest/gtest.h>

#include "kube/testing/eventually.h"
#include "kube/testing/fake_time.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;

TEST(WorkQueueTest, AKeyIsInItOnceAndInOrder) {
  WorkQueue queue;
  queue.Add("a");
  queue.Add("b");
  queue.Add("a");
  EXPECT_EQ(queue.Depth(), 2U);
  EXPECT_EQ(queue.Adds(), 2U);
  EXPECT_EQ(queue.Get(), "a");
  EXPECT_EQ(queue.Get(), "b");
  EXPECT_EQ(queue.Depth(), 0U);
}

TEST(WorkQueueTest, AKeyIsNotGivenOutTwiceAtOnce) {
  WorkQueue queue;
  queue.Add("a");
  EXPECT_EQ(queue.Get(), "a");
  queue.Add("a");  // while it is worked on
  queue.Add("a");
  EXPECT_EQ(queue.Depth(), 0U);
  queue.Done("a");
  EXPECT_EQ(queue.Depth(), 1U);
  EXPECT_EQ(queue.Get(), "a");
  queue.Done("a");
  EXPECT_EQ(queue.Depth(), 0U);
}

TEST(WorkQueueTest, AKeyIsDueWhenItsDelayIsOver) {
  FakeTime clock;
  WorkQueue queue({}, clock);
  queue.AddAfter("late", milliseconds(300));
  queue.AddAfter("early", milliseconds(50));
  clock.Advance(milliseconds(49));
  EXPECT_EQ(queue.Depth(), 0U);
  clock.Advance(milliseconds(1));
  EXPECT_EQ(queue.Depth(), 1U);
  EXPECT_EQ(queue.Get(), "early");
  clock.Advance(milliseconds(249));
  EXPECT_EQ(queue.Depth(), 0U);
  clock.Advance(milliseconds(1));
  EXPECT_EQ(queue.Get(), "late");
}

// By the real clock; the late one would be due tomorrow.
TEST(WorkQueueTest, AnEarlierKeyWakesWhoWaitsForALaterOne) {
  WorkQueue queue;
  queue.AddAfter("late", WorkQueue::kMaxDelay);
  auto first = std::async(std::launch::async, [&] { return queue.Get(); });
  queue.AddAfter("early", milliseconds(50));
  EXPECT_EQ(first.get(), "early");
}

// The clock's nanoseconds end after 292 years: the sum of such a delay and now would lie in the
// past, and the key be due at once, again and again.
TEST(WorkQueueTest, ADelayOfCenturiesIsNotDueAtOnce) {
  for (const milliseconds delay : {milliseconds(std::chrono::years(374)), milliseconds::max()}) {
    WorkQueue queue;
    queue.AddAfter("a", delay);
    EXPECT_EQ(queue.Depth(), 0U);
    queue.Add("b");
    EXPECT_EQ(queue.Get(), "b");
  }
}

TEST(WorkQueueTest, AKeyWaitsOnceForItsEarliestTime) {
  FakeTime clock;
  WorkQueue queue({}, clock);
  for (const int delay : {60'000, 20, 60'000})
    queue.AddAfter("a", milliseconds(delay));
  clock.Advance(milliseconds(20));
  EXPECT_EQ(queue.Get(), "a");
  queue.Done("a");
  clock.Advance(milliseconds(60'000));
  EXPECT_EQ(queue.Depth(), 0U);
}

TEST(WorkQueueTest, FailuresComeBackLaterAndLater) {
  FakeTime clock;
  WorkQueue queue({milliseconds(20), milliseconds(10'000)}, clock);
  const auto comes_after = [&](milliseconds delay) {
    queue.AddRateLimited("a");
    clock.Advance(delay - milliseconds(1));
    EXPECT_EQ(queue.Depth(), 0U) << delay.count();
    clock.Advance(milliseconds(1));
    ASSERT_EQ(queue.Depth(), 1U) << delay.count();
    EXPECT_EQ(queue.Get(), "a");
    queue.Done("a");
  };
  for (const int delay : {20, 40, 80, 160})
    comes_after(milliseconds(delay));
  EXPECT_EQ(queue.Retries(), 4U);
  queue.Forget("a");
  comes_after(milliseconds(20));
  // There is a maximum.
  for (int failures = 1; failures < 9; ++failures)
    comes_after(milliseconds(20 << failures));
  for (int failures = 9; failures < 100; ++failures)
    comes_after(milliseconds(10'000));
}

TEST(WorkQueueTest, ShutDownWakesEveryWaiter) {
  WorkQueue queue;
  queue.AddAfter("a", milliseconds(60'000));
  std::atomic<int> ended{0};
  std::vector<std::jthread> workers;
  workers.reserve(4);
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&] {
      while (queue.Get()) {
      }
      ++ended;
    });
  }
  queue.ShutDown();
  workers.clear();
  EXPECT_EQ(ended, 4);
  queue.Add("b");
  EXPECT_EQ(queue.Get(), std::nullopt);
}

TEST(WorkQueueTest, WorkersNeverShareAKeyAndLoseNone) {
  WorkQueue queue;
  constexpr int kKeys = 10;
  std::array<std::atomic<int>, kKeys> busy{};
  std::array<std::atomic<int>, kKeys> state{};
  std::array<std::atomic<int>, kKeys> seen{};
  std::vector<std::jthread> workers;
  workers.reserve(4);
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&] {
      while (const auto key = queue.Get()) {
        const auto k = static_cast<size_t>(std::stoi(*key));
        EXPECT_EQ(busy[k]++, 0);
        seen[k] = state[k].load();
        --busy[k];
        queue.Done(*key);
      }
    });
  }
  for (int i = 1; i <= 20'000; ++i) {
    const auto k = static_cast<size_t>(i % kKeys);
    state[k] = i;
    queue.Add(std::to_string(k));
  }
  EXPECT_TRUE(Eventually([&] {
    for (size_t k = 0; k < kKeys; ++k) {
      if (seen[k] != state[k]) return false;
    }
    return true;
  }));
  queue.ShutDown();
}

}  // namespace
}  // namespace pointsman::kube
