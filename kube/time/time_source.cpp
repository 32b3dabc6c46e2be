#include "kube/time/time_source.h"

namespace pointsman::kube {
namespace {

class RealTime final : public TimeSource {
 public:
  time_point Now() const override { return std::chrono::steady_clock::now(); }
  bool Sleep(std::chrono::nanoseconds delay, const std::stop_token& stop) override {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, delay, [] { return false; });
    return !stop.stop_requested();
  }
  bool WaitUntil(std::condition_variable_any& changed, std::unique_lock<std::mutex>& lock,
                 const std::stop_token& stop, time_point deadline,
                 const std::function<bool()>& news) override {
    return changed.wait_until(lock, stop, deadline, news);
  }
};

}  // namespace

TimeSource& TimeSource::Real() {
  static RealTime clock;
  return clock;
}

}  // namespace pointsman::kube
