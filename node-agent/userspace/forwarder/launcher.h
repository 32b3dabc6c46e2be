// Starts forwarders for an agent in another container of the same Pod. A container's processes end
// with its first one, so a forwarder that the agent starts itself would end with every restart of
// the agent's container; in the launcher's container it goes on.
#pragma once

#include <chrono>
#include <string>
#include <sys/types.h>
#include <unordered_set>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/sockets.h"

namespace pointsman::forwarder {

// Waits on a UNIX socket (mode 0600; only the same user is served) for messages: the arguments of a
// forwarder, and the file descriptor on which that says whether it works. Runs only the program
// that it is itself. Single-threaded; blocks SIGTERM, SIGINT and SIGCHLD in the calling thread.
class Launcher {
 public:
  // A socket that a killed predecessor left there is replaced. Throws std::system_error;
  // EADDRINUSE: another launcher is there.
  explicit Launcher(std::string path);
  ~Launcher();
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Until SIGTERM or SIGINT: then nothing more is started, and it ends when its forwarders have,
  // which the agent drains when it is told to end at the same time.
  void Run();

 private:
  void Serve();
  // False: told to end.
  bool TakeSignal();

  const std::string path_;
  UniqueFd socket_;
  UniqueFd signals_;
  std::unordered_set<pid_t> children_;
};

// Asks the launcher at `path` for a forwarder, and waits for `patience` for the launcher to be
// there. What becomes of it is said on `ready`. Throws std::system_error.
void Launch(const std::string& path, const std::vector<std::string>& arguments, int ready,
            std::chrono::milliseconds patience);

}  // namespace pointsman::forwarder
