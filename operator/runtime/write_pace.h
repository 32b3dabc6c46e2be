// How often an object may be written. While 5,000 agents report, a status that counts them differs
// from pass to pass: each write of it is an entry in etcd and an event for everybody who watches.
#pragma once

#include <chrono>
#include <string>
#include <unordered_map>

namespace pointsman::op {

// Not thread-safe: belongs to the worker.
class WritePace {
 public:
  using Clock = std::chrono::steady_clock;

  explicit WritePace(Clock::duration interval) : interval_(interval) {}

  // How long a write of the object with this uid has to wait; zero: it may be made now. The first
  // one waits for nothing.
  Clock::duration Wait(const std::string& uid, Clock::time_point now) const;
  // A write was tried: it counts whether or not it came through.
  void Wrote(const std::string& uid, Clock::time_point now);

 private:
  const Clock::duration interval_;
  std::unordered_map<std::string, Clock::time_point> last_;
};

}  // namespace pointsman::op
