// One epoll loop with timers and deferred destruction. Single-threaded.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace pointsman::forwarder {

using Clock = std::chrono::steady_clock;

// Something that a file descriptor's events go to.
class EventHandler {
 public:
  virtual ~EventHandler() = default;
  virtual void OnEvents(uint32_t events) = 0;
};

class EventLoop {
 public:
  using Timers = std::multimap<Clock::time_point, std::function<void()>>;
  using Timer = Timers::iterator;

  EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // `events`: EPOLL… bits. False: errno says why (no memory, too many watches of this user).
  bool Add(int fd, uint32_t events, EventHandler* handler);
  void Change(int fd, uint32_t events, EventHandler* handler);
  // `handler` gets no more events, not even those that are already read. The caller closes its file
  // descriptor now, which ends the watch.
  void Forget(EventHandler* handler);

  // Runs once, at or after `when`, unless cancelled before.
  Timer At(Clock::time_point when, std::function<void()> work);
  void Cancel(Timer timer) { timers_.erase(timer); }
  // Calls `handler`->OnEvents(0) in the next turn: it stopped to let others have their turn. Once.
  void Again(EventHandler* handler) { again_.push_back(handler); }
  void NotAgain(EventHandler* handler);
  // Destroyed when no event of this turn can refer to it any more.
  void Destroy(std::shared_ptr<void> object) { dying_.push_back(std::move(object)); }

  // The time at the start of this turn.
  Clock::time_point now() const { return now_; }
  void Run();
  void Stop() { stop_ = true; }

 private:
  const UniqueFd epoll_;
  bool stop_ = false;
  Clock::time_point now_;
  Timers timers_;
  std::vector<EventHandler*> again_;
  std::vector<EventHandler*> forgotten_;  // in this turn
  std::vector<std::shared_ptr<void>> dying_;
};

}  // namespace pointsman::forwarder
