#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <sys/types.h>

#include "base/unique_fd.h"
#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

// Exit statuses of this process's children: those of Start are kept, orphans are just reaped.
class Children {
 public:
  struct Status {
    bool running = true;
    int exit = 0;
    int signal = 0;
  };

  Children();

  // Runs `in_child` in a child; it must end in exec or _exit and is limited to async-signal-safe
  // calls.
  pid_t Start(const std::function<void()>& in_child);

  // Readable when that child has ended. Owned by the caller.
  UniqueFd EndEvent(pid_t pid);

  std::optional<Status> Get(pid_t pid);

  void Forget(pid_t pid);

 private:
  void Reap();

  std::mutex mutex_;
  std::condition_variable started_;
  std::map<pid_t, Status> statuses_;
  std::multimap<pid_t, UniqueFd> waiters_;
};

}  // namespace pointsman::e2e
