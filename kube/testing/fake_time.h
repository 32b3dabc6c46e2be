// For tests: a clock that moves when it is told to.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "kube/time/time_source.h"

namespace pointsman::kube {

class FakeTime final : public TimeSource {
 public:
  // What a sleep does: it takes no time and moves the clock, or it waits for Advance.
  enum class Sleeping { kMovesTheClock, kWaits };

  explicit FakeTime(Sleeping sleeping = Sleeping::kMovesTheClock) : sleeping_(sleeping) {}

  time_point Now() const override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  bool Sleep(std::chrono::nanoseconds delay, const std::stop_token& stop) override {
    std::unique_lock lock(mutex_);
    sleeps_.push_back(delay);
    const time_point end = now_ + delay;
    if (sleeping_ == Sleeping::kMovesTheClock) {
      now_ = end;
    } else {
      changed_.wait(lock, stop, [&] { return now_ >= end; });
    }
    return !stop.stop_requested();
  }
  bool WaitUntil(std::condition_variable_any& changed, std::unique_lock<std::mutex>& lock,
                 const std::stop_token& stop, time_point deadline,
                 const std::function<bool()>& news) override {
    // Advance does not know who waits on which condition: the clock is looked at now and then.
    while (!news() && !stop.stop_requested() && Now() < deadline)
      changed.wait_for(lock, stop, std::chrono::milliseconds(2), news);
    return news();
  }
  void Advance(std::chrono::nanoseconds by) {
    const std::lock_guard lock(mutex_);
    now_ += by;
    changed_.notify_all();
  }
  // So far.
  std::vector<std::chrono::nanoseconds> Sleeps() const {
    const std::lock_guard lock(mutex_);
    return sleeps_;
  }

 private:
  const Sleeping sleeping_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  time_point now_{std::chrono::hours(1000)};
  std::vector<std::chrono::nanoseconds> sleeps_;
};

}  // namespace pointsman::kube
