#include "kube/client/rate_limiter.h"

#include <algorithm>
#include <stdexcept>

#include "kube/time/time_source.h"

namespace pointsman::kube {

RateLimiter::RateLimiter(double qps, int burst) : per_second_(qps), burst_(burst), tokens_(burst) {
  // Written so that NaN is refused too.
  if (!(qps > 0) || burst < 1) {
    throw std::invalid_argument("a rate limit needs qps above 0 and a burst of at least 1");
  }
}

std::chrono::nanoseconds RateLimiter::Reserve(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (last_ != Clock::time_point{} && now > last_) {
    tokens_ = std::min(burst_,
                       tokens_ + std::chrono::duration<double>(now - last_).count() * per_second_);
  }
  last_ = std::max(last_, now);
  tokens_ -= 1;
  if (tokens_ >= 0) return std::chrono::nanoseconds(0);
  // A rate of one in years is a configuration that nobody means: no overflow, and no more than
  // that.
  constexpr double kLongest = 86'400;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(std::min(kLongest, -tokens_ / per_second_)));
}

void RateLimiter::GiveBack() {
  const std::lock_guard lock(mutex_);
  tokens_ = std::min(burst_, tokens_ + 1);
}

bool RateLimiter::Wait(const std::stop_token& stop) {
  const std::chrono::nanoseconds delay = Reserve(Clock::now());
  if (delay.count() == 0) return true;
  if (TimeSource::Real().Sleep(delay, stop)) return true;
  GiveBack();
  return false;
}

}  // namespace pointsman::kube
