#include "kube/process/child_wait.h"

#include <algorithm>
#include <cerrno>
#include <sys/wait.h>
#include <thread>

#include <signal.h>

namespace pointsman::kube {

std::optional<int> WaitForChild(pid_t pid, std::chrono::milliseconds longest) {
  using Clock = std::chrono::steady_clock;
  // No call waits for a child with a limit before Linux 5.3 (pidfd_open). A child that is about to
  // end is looked for at once again, one that runs on ever more seldom.
  constexpr std::chrono::microseconds kLongestPause{20'000};
  const Clock::time_point deadline = Clock::now() + longest;
  std::chrono::microseconds pause{50};
  while (true) {
    int status = 0;
    const pid_t ended = ::waitpid(pid, &status, WNOHANG);
    if (ended == pid) return status;
    if (ended < 0 && errno != EINTR) return 0;
    if (Clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

std::optional<int> KillChild(pid_t pid, bool group, std::chrono::milliseconds longest) {
  ::kill(group ? -pid : pid, SIGKILL);
  return WaitForChild(pid, longest);
}

}  // namespace pointsman::kube
