#include "e2e/testbed/node/children.h"

#include <algorithm>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <thread>

#include <unistd.h>

#include "e2e/testbed/node/system_call.h"

namespace pointsman::e2e {

Children::Children() {
  std::thread([this] { Reap(); }).detach();
}

pid_t Children::Start(const std::function<void()>& in_child) {
  const std::lock_guard lock(mutex_);
  const pid_t pid = fork();
  if (pid < 0) ThrowErrno("fork");
  if (pid == 0) {
    in_child();
    _exit(127);
  }
  statuses_[pid] = Status{};
  started_.notify_all();
  return pid;
}

UniqueFd Children::EndEvent(pid_t pid) {
  UniqueFd event(eventfd(0, EFD_CLOEXEC));
  if (!event.valid()) ThrowErrno("eventfd");
  const std::lock_guard lock(mutex_);
  const auto found = statuses_.find(pid);
  if (found == statuses_.end() || !found->second.running) {
    eventfd_write(event.get(), 1);
  } else {
    waiters_.emplace(pid, dup(event.get()));
  }
  return event;
}

std::optional<Children::Status> Children::Get(pid_t pid) {
  const std::lock_guard lock(mutex_);
  const auto found = statuses_.find(pid);
  return found == statuses_.end() ? std::nullopt : std::optional(found->second);
}

void Children::Forget(pid_t pid) {
  const std::lock_guard lock(mutex_);
  statuses_.erase(pid);
}

void Children::Reap() {
  for (;;) {
    int raw = 0;
    const pid_t pid = waitpid(-1, &raw, 0);
    std::unique_lock lock(mutex_);
    if (pid < 0) {
      // No child now. An orphan may come only from a child of ours, so the next start is soon
      // enough.
      started_.wait(lock, [this] {
        return std::any_of(statuses_.begin(), statuses_.end(),
                           [](const auto& item) { return item.second.running; });
      });
      continue;
    }
    const auto found = statuses_.find(pid);
    if (found == statuses_.end()) continue;
    found->second.running = false;
    found->second.exit = WIFEXITED(raw) ? WEXITSTATUS(raw) : 0;
    found->second.signal = WIFSIGNALED(raw) ? WTERMSIG(raw) : 0;
    const auto [begin, end] = waiters_.equal_range(pid);
    for (auto waiter = begin; waiter != end; ++waiter)
      eventfd_write(waiter->second.get(), 1);
    waiters_.erase(begin, end);
  }
}

}  // namespace pointsman::e2e
