#include "node-agent/userspace/forwarder/event_loop.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/epoll.h>
#include <system_error>

namespace pointsman::forwarder {

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), now_(Clock::now()) {
  if (!epoll_) throw std::system_error(errno, std::generic_category(), "epoll_create1");
}

bool EventLoop::Add(int fd, uint32_t events, EventHandler* handler) {
  epoll_event event{.events = events, .data = {.ptr = handler}};
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void EventLoop::Change(int fd, uint32_t events, EventHandler* handler) {
  epoll_event event{.events = events, .data = {.ptr = handler}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  }
}

void EventLoop::Forget(EventHandler* handler) {
  forgotten_.push_back(handler);
  NotAgain(handler);
}

void EventLoop::NotAgain(EventHandler* handler) {
  if (again_.empty()) return;
  std::replace(again_.begin(), again_.end(), handler, static_cast<EventHandler*>(nullptr));
}

EventLoop::Timer EventLoop::At(Clock::time_point when, std::function<void()> work) {
  return timers_.emplace(when, std::move(work));
}

void EventLoop::Run() {
  std::array<epoll_event, 512> events;
  while (!stop_) {
    int timeout = -1;
    if (!again_.empty()) {
      timeout = 0;
    } else if (!timers_.empty()) {
      const auto wait = timers_.begin()->first - Clock::now();
      // Rounded up: a turn that comes too early would find nothing due and spin.
      timeout = static_cast<int>(std::clamp<int64_t>(
          std::chrono::ceil<std::chrono::milliseconds>(wait).count(), 0, 3'600'000));
    }
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
    if (count < 0 && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "epoll_wait");
    }
    now_ = Clock::now();
    forgotten_.clear();
    // Those that are put off again wait for the turn after this one.
    std::vector<EventHandler*> again;
    again.swap(again_);
    for (int i = 0; i < count; ++i) {
      auto* const handler = static_cast<EventHandler*>(events[static_cast<size_t>(i)].data.ptr);
      const bool gone = !forgotten_.empty() && std::find(forgotten_.begin(), forgotten_.end(),
                                                         handler) != forgotten_.end();
      if (!gone) handler->OnEvents(events[static_cast<size_t>(i)].events);
    }
    for (EventHandler* handler : again) {
      if (handler == nullptr) continue;
      const bool gone =
          std::find(forgotten_.begin(), forgotten_.end(), handler) != forgotten_.end();
      if (!gone) handler->OnEvents(0);
    }
    while (!timers_.empty() && timers_.begin()->first <= now_) {
      const auto timer = timers_.extract(timers_.begin());
      timer.mapped()();
    }
    dying_.clear();
  }
}

}  // namespace pointsman::forwarder
