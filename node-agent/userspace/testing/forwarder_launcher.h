// For tests: what starts pointsman-forwarder for an agent, as in its own container of the Pod.
#pragma once

#include <string>
#include <sys/types.h>

namespace pointsman::agent::testing {

// pointsman-forwarder --launcher, in the namespaces of the calling thread. Ends with this object,
// or with that thread.
class ForwarderLauncher {
 public:
  // `program`: its path; `socket`: where it listens. Throws std::system_error.
  ForwarderLauncher(const std::string& program, const std::string& socket);
  ~ForwarderLauncher();
  ForwarderLauncher(const ForwarderLauncher&) = delete;
  ForwarderLauncher& operator=(const ForwarderLauncher&) = delete;

 private:
  pid_t pid_;
};

}  // namespace pointsman::agent::testing
