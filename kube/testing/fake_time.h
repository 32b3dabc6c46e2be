// For tests: a clock that moves when it is told to, and with each sleep, which takes no time.
#pragma once

#include <mutex>
#include <vector>

#include "kube/time/time_source.h"

namespace pointsman::kube {

class FakeTime final : public TimeSource {
 public:
  time_point Now() const override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  bool Sleep(std::chrono::nanoseconds delay, const std::stop_token& stop) override {
    const std::lock_guard lock(mutex_);
    sleeps_.push_back(delay);
    now_ += delay;
    return !stop.stop_requested();
  }
  void Advance(std::chrono::nanoseconds by) {
    const std::lock_guard lock(mutex_);
    now_ += by;
  }
  // So far.
  std::vector<std::chrono::nanoseconds> Sleeps() const {
    const std::lock_guard lock(mutex_);
    return sleeps_;
  }

 private:
  mutable std::mutex mutex_;
  time_point now_{std::chrono::hours(1000)};
  std::vector<std::chrono::nanoseconds> sleeps_;
};

}  // namespace pointsman::kube
