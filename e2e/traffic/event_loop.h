// A single-threaded epoll loop with timers and signals: all that the traffic program needs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace pointsman::e2e {

// Not thread-safe: everything is called from the thread that calls Run().
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Handler = std::function<void(std::uint32_t events)>;  // EPOLL* bits, level-triggered
  using TimerId = std::pair<Clock::time_point, std::uint64_t>;

  EventLoop();  // Throws std::system_error.
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // The loop does not own `fd`. Unwatch it before closing it; both may happen inside a handler.
  void Watch(int fd, std::uint32_t events, Handler handler);
  void Modify(int fd, std::uint32_t events);
  void Unwatch(int fd);

  TimerId At(Clock::time_point when, std::function<void()> run);
  TimerId After(Clock::duration delay, std::function<void()> run);
  // A timer that has already run, or a default-made id, is ignored.
  void Cancel(const TimerId& id);

  // Blocks these signals for the process and delivers them to `handler` instead.
  void OnSignals(const std::vector<int>& signals, std::function<void(int)> handler);

  void Run();  // Until Stop().
  void Stop() { stopped_ = true; }

 private:
  struct Watched {
    std::uint32_t generation;
    std::shared_ptr<Handler> handler;
  };
  const UniqueFd epoll_;
  UniqueFd signals_;
  bool stopped_ = false;
  std::uint32_t generation_ = 0;
  std::uint64_t timer_number_ = 0;
  std::unordered_map<int, Watched> watched_;
  std::map<TimerId, std::function<void()>> timers_;
};

}  // namespace pointsman::e2e
