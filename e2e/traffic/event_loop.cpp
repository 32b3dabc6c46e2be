#include "e2e/traffic/event_loop.h"

#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <system_error>
#include <utility>

#include <signal.h>
#include <unistd.h>

namespace pointsman::e2e {
namespace {

std::system_error SystemError(const char* what) {
  return std::system_error(errno, std::generic_category(), what);
}

epoll_event Event(std::uint32_t events, int fd, std::uint32_t generation) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = (static_cast<std::uint64_t>(generation) << 32) | static_cast<std::uint32_t>(fd);
  return event;
}

}  // namespace

EventLoop::EventLoop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) throw SystemError("epoll_create1");
}

void EventLoop::Watch(int fd, std::uint32_t events, Handler handler) {
  epoll_event event = Event(events, fd, ++generation_);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw SystemError("epoll_ctl add");
  watched_[fd] = {generation_, std::make_shared<Handler>(std::move(handler))};
}

void EventLoop::Modify(int fd, std::uint32_t events) {
  epoll_event event = Event(events, fd, watched_.at(fd).generation);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0)
    throw SystemError("epoll_ctl modify");
}

void EventLoop::Unwatch(int fd) {
  if (watched_.erase(fd) == 0) return;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) != 0)
    throw SystemError("epoll_ctl delete");
}

EventLoop::TimerId EventLoop::At(Clock::time_point when, std::function<void()> run) {
  const TimerId id{when, ++timer_number_};
  timers_.emplace(id, std::move(run));
  return id;
}

EventLoop::TimerId EventLoop::After(Clock::duration delay, std::function<void()> run) {
  return At(Clock::now() + delay, std::move(run));
}

void EventLoop::Cancel(const TimerId& id) {
  timers_.erase(id);
}

void EventLoop::OnSignals(const std::vector<int>& signals, std::function<void(int)> handler) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals)
    sigaddset(&set, signal);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the program has one thread.
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) throw SystemError("sigprocmask");
  signals_.Reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw SystemError("signalfd");
  Watch(signals_.get(), EPOLLIN, [this, handler = std::move(handler)](std::uint32_t) {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == sizeof info)
      handler(static_cast<int>(info.ssi_signo));
  });
}

void EventLoop::Run() {
  std::vector<epoll_event> events(256);
  while (!stopped_) {
    int wait_ms = -1;
    if (!timers_.empty()) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first.first - Clock::now());
      wait_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
    }
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms);
    if (count < 0 && errno != EINTR) throw SystemError("epoll_wait");
    for (int i = 0; i < count && !stopped_; ++i) {
      const auto data = events[static_cast<std::size_t>(i)].data.u64;
      const auto found = watched_.find(static_cast<int>(data & 0xffffffffU));
      // A handler earlier in this batch may have closed this fd and the number be in use again.
      if (found == watched_.end() || found->second.generation != data >> 32) continue;
      const auto handler = found->second.handler;  // it may unwatch itself
      (*handler)(events[static_cast<std::size_t>(i)].events);
    }
    const auto now = Clock::now();
    while (!stopped_ && !timers_.empty() && timers_.begin()->first.first <= now) {
      const auto timer = timers_.extract(timers_.begin());
      timer.mapped()();
    }
  }
}

}  // namespace pointsman::e2e
