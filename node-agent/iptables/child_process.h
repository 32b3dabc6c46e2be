// Runs one child process to its end, feeding its stdin and taking its stdout as they come.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::agent {

struct ChildExit {
  int status = 0;            // exit status; 128 + signal number when a signal ended it
  std::string error_output;  // its stderr, at most the first 64 KiB
};

// `input`: its pieces, one after the other. `argv[0]` is the path of the program (no PATH search,
// no shell). `on_output` gets stdout piece by piece; it may throw, which kills the child. The child
// is in the calling thread's network namespace, with default signal dispositions. Throws
// std::system_error when it cannot be started.
ChildExit RunChild(const std::vector<std::string>& argv, std::span<const std::string_view> input,
                   const std::function<void(std::string_view)>& on_output);

}  // namespace pointsman::agent
