// For tests and benchmarks: what a process costs, from /proc.
#pragma once

#include <chrono>
#include <cstddef>
#include <sys/types.h>

namespace pointsman::agent::testing {

// 0: the process is gone, be it while this is read.
size_t ResidentKilobytes(pid_t pid);
// Of all its threads and of the children it has waited for, as fine as the kernel's clock ticks
// (10 ms). Throws std::runtime_error when the process is gone.
std::chrono::milliseconds CpuTime(pid_t pid);

}  // namespace pointsman::agent::testing
