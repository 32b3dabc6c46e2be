// Waiting for a child process without waiting for ever: one that hangs in the kernel (state D) does
// not even end by SIGKILL before that lets go of it.
#pragma once

#include <chrono>
#include <optional>
#include <sys/types.h>

namespace pointsman::kube {

// Reaps the child `pid`, as soon as it has ended; its status as waitpid(2) gives it. nullopt: after
// `longest` it still runs. A child that somebody else has reaped counts as ended with status 0.
std::optional<int> WaitForChild(pid_t pid, std::chrono::milliseconds longest);

// SIGKILL to the child, or (`group`) to all of its process group, and waits for it as WaitForChild.
std::optional<int> KillChild(pid_t pid, bool group, std::chrono::milliseconds longest);

}  // namespace pointsman::kube
