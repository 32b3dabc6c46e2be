// Runs one child process to its end, feeding its stdin and taking its stdout as they come.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::kube {

struct ChildExit {
  int status = 0;            // exit status; 128 + signal number when a signal ended it
  std::string error_output;  // its stderr, at most the first 64 KiB
};

struct ChildLimits {
  // As long a child may take. One that was on a processor for a hundredth of it works, and gets as
  // much again, up to `most`: iptables-nft-restore takes minutes for a first table of thousands of
  // Services (docs/performance.md).
  std::chrono::milliseconds idle{60'000};
  std::chrono::milliseconds most{900'000};
  uint64_t output = uint64_t{1} << 30;  // bytes of stdout and stderr
};

// A child that went over its limits and was killed, with all of its process group. what() names the
// command and the limit.
struct ChildKilled : std::runtime_error {
  ChildKilled(const std::vector<std::string>& argv, std::string limit);
  std::string limit;  // "it had not ended after 60.0 s, 0.1 s of them on a processor"
};

// `input`: its pieces, one after the other. `argv[0]` is the path of the program (no PATH search,
// no shell). `on_output` gets stdout piece by piece; it may throw, which kills the child. The child
// is in the calling thread's network namespace, in a process group of its own, with default signal
// dispositions; a requested `stop` kills it. Throws std::system_error when it cannot be started,
// ChildKilled.
ChildExit RunChild(const std::vector<std::string>& argv, std::span<const std::string_view> input,
                   const std::function<void(std::string_view)>& on_output,
                   const ChildLimits& limits = {}, const std::stop_token& stop = {});

}  // namespace pointsman::kube
