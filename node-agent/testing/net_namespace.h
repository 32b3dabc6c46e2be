// For tests: network namespaces.
#pragma once

#include <functional>
#include <string>

#include "base/unique_fd.h"

namespace pointsman::agent::testing {

// Without a name, and ends with its last file descriptor, thread and socket, unless it is found by
// Named or Current. Throws std::system_error.
class NetNamespace {
 public:
  NetNamespace();
  // The one that ip-netns(8) knows by this name; the calling thread's.
  static NetNamespace Named(const std::string& name);
  static NetNamespace Current();
  // Runs `work` in a thread of this namespace and waits for it; what it throws is thrown here.
  void Run(const std::function<void()>& work) const;
  // Moves the calling thread into it for good.
  void Enter() const;
  // A path that ip(8) takes as "netns".
  std::string path() const;

 private:
  explicit NetNamespace(const std::string& path);

  UniqueFd fd_;
};

// ip(8) with the words of each line, one process for all, in the calling thread's namespace. Throws
// std::runtime_error with its message at the first line that fails.
void IpTool(const std::string& lines);

}  // namespace pointsman::agent::testing
