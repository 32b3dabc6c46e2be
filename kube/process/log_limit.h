// Keeps what happens often from flooding the log.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

namespace pointsman::kube {

// Thread-safe.
class LogLimit {
 public:
  using Clock = std::chrono::steady_clock;

  explicit LogLimit(Clock::duration period = std::chrono::minutes(1)) : period_(period) {}

  // Whether it may be said now: once in a period. The value: how often it happened since it was
  // said last, this time included.
  std::optional<uint64_t> Happened(Clock::time_point now = Clock::now()) {
    const std::lock_guard lock(mutex_);
    ++unsaid_;
    if (said_ && now - *said_ < period_) return std::nullopt;
    said_ = now;
    return std::exchange(unsaid_, 0);
  }

 private:
  const Clock::duration period_;
  std::mutex mutex_;
  std::optional<Clock::time_point> said_;
  uint64_t unsaid_ = 0;
};

}  // namespace pointsman::kube
