// Time as code sees it that waits: a test has one of its own (kube/testing/fake_time.h).
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>

namespace pointsman::kube {

// Thread-safe.
class TimeSource {
 public:
  // Does not jump with the wall clock, which must not delay or hasten anything.
  using time_point = std::chrono::steady_clock::time_point;

  virtual ~TimeSource() = default;
  virtual time_point Now() const = 0;
  // Until `delay` is over or `stop` is requested; false when it was.
  virtual bool Sleep(std::chrono::nanoseconds delay, const std::stop_token& stop) = 0;
  // As condition_variable_any's: until `news` holds, `deadline` is there or `stop` is requested;
  // returns what `news` says then.
  virtual bool WaitUntil(std::condition_variable_any& changed, std::unique_lock<std::mutex>& lock,
                         const std::stop_token& stop, time_point deadline,
                         const std::function<bool()>& news) = 0;

  static TimeSource& Real();
};

}  // namespace pointsman::kube
