// For tests: network namespaces without a name.
#pragma once

#include <functional>
#include <string>

#include "base/unique_fd.h"

namespace pointsman::agent::testing {

// Ends with its last file descriptor, thread and socket. Throws std::system_error.
class NetNamespace {
 public:
  NetNamespace();
  // Runs `work` in a thread of this namespace and waits for it; what it throws is thrown here.
  void Run(const std::function<void()>& work) const;
  // Moves the calling thread into it for good.
  void Enter() const;
  // A path that ip(8) takes as "netns".
  std::string path() const;

 private:
  UniqueFd fd_;
};

// ip(8) with the words of each line, one process for all, in the calling thread's namespace. Throws
// std::runtime_error with its message at the first line that fails.
void IpTool(const std::string& lines);

}  // namespace pointsman::agent::testing
