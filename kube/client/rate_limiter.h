// How often a client asks the API server: client-go's token bucket (k8s.io/client-go
// util/flowcontrol, golang.org/x/time/rate), which kube-proxy's clientConnection.qps and .burst
// set.
#pragma once

#include <chrono>
#include <mutex>
#include <stop_token>

namespace pointsman::kube {

// Thread-safe: who comes first goes first.
class RateLimiter {
 public:
  using Clock = std::chrono::steady_clock;

  // `qps` tokens a second are added to a bucket that holds `burst` and is full at first; each
  // request takes one. Throws std::invalid_argument unless qps > 0 and burst >= 1.
  RateLimiter(double qps, int burst);

  // Takes a token and returns how long its request has to wait for it.
  std::chrono::nanoseconds Reserve(Clock::time_point now);
  // Takes a token, and waits for it. False: `stop` was requested before the time had come; the
  // token is given back.
  bool Wait(const std::stop_token& stop);

 private:
  void GiveBack();

  const double per_second_;
  const double burst_;
  std::mutex mutex_;
  double tokens_;  // negative: that many are promised
  Clock::time_point last_{};
};

}  // namespace pointsman::kube
