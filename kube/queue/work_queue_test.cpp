#include "kube/queue/work_queue.h"

#include <atomic>
#include <future>
#include <thread>

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

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

TEST(WorkQueueTest, DelaysAndWakesForTheEarlier) {
  WorkQueue queue;
  const auto start = steady_clock::now();
  queue.AddAfter("late", milliseconds(300));
  auto first = std::async(std::launch::async, [&] { return queue.Get(); });
  queue.AddAfter("early", milliseconds(50));
  EXPECT_EQ(first.get(), "early");
  EXPECT_GE(steady_clock::now() - start, milliseconds(50));
  EXPECT_LT(steady_clock::now() - start, milliseconds(290));
  EXPECT_EQ(queue.Get(), "late");
  EXPECT_GE(steady_clock::now() - start, milliseconds(300));
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
  WorkQueue queue;
  const auto start = steady_clock::now();
  queue.AddAfter("a", milliseconds(60'000));
  queue.AddAfter("a", milliseconds(20));
  queue.AddAfter("a", milliseconds(60'000));
  EXPECT_EQ(queue.Get(), "a");
  EXPECT_LT(steady_clock::now() - start, milliseconds(5000));
  queue.Done("a");
  queue.AddAfter("b", milliseconds(30));
  EXPECT_EQ(queue.Get(), "b");  // and not "a" again
}

TEST(WorkQueueTest, FailuresComeBackLaterAndLater) {
  WorkQueue queue({milliseconds(20), milliseconds(10'000)});
  const auto delay = [&] {
    const auto start = steady_clock::now();
    queue.AddRateLimited("a");
    EXPECT_EQ(queue.Get(), "a");
    queue.Done("a");
    return steady_clock::now() - start;
  };
  EXPECT_GE(delay(), milliseconds(20));
  EXPECT_GE(delay(), milliseconds(40));
  EXPECT_GE(delay(), milliseconds(80));
  EXPECT_GE(delay(), milliseconds(160));
  EXPECT_EQ(queue.Retries(), 4U);
  queue.Forget("a");
  EXPECT_LT(delay(), milliseconds(300));  // 320 would be next
}

TEST(WorkQueueTest, DelaysHaveAMaximum) {
  WorkQueue queue({milliseconds(1), milliseconds(50)});
  const auto start = steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    queue.AddRateLimited("other");
    queue.Forget("a");
  }
  EXPECT_EQ(queue.Get(), "other");
  queue.Done("other");
  queue.AddRateLimited("other");  // its 101st failure
  EXPECT_EQ(queue.Get(), "other");
  EXPECT_LT(steady_clock::now() - start, milliseconds(5000));
}

TEST(WorkQueueTest, ShutDownWakesEveryWaiter) {
  WorkQueue queue;
  queue.AddAfter("a", milliseconds(60'000));
  std::atomic<int> ended{0};
  std::vector<std::jthread> workers;
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
  const auto deadline = steady_clock::now() + std::chrono::seconds(20);
  const auto all_seen = [&] {
    for (size_t k = 0; k < kKeys; ++k) {
      if (seen[k] != state[k]) return false;
    }
    return true;
  };
  while (!all_seen() && steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_TRUE(all_seen());
  queue.ShutDown();
}

}  // namespace
}  // namespace pointsman::kube
