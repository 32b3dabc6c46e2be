// Processes and the namespaces of a cluster.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

#include <signal.h>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

// A child process with a session of its own (Ctrl-C in the terminal does not reach it). The
// destructor kills its process group and reaps it. Not thread-safe.
class Process {
 public:
  Process() = default;
  Process(pid_t pid, std::string name) : pid_(pid), name_(std::move(name)) {}
  ~Process();
  Process(Process&& other) noexcept { *this = std::move(other); }
  Process& operator=(Process&& other) noexcept;

  pid_t pid() const { return pid_; }
  const std::string& name() const { return name_; }
  // Not started, or ended (its wait status is then in status()).
  bool Running();
  // To the whole process group. Having ended meanwhile is no error.
  void Signal(int signal);
  bool WaitFor(std::chrono::milliseconds timeout);  // true: it has ended
  void Kill();                                      // SIGKILL to the group, and reaped
  // "exit status 1", "signal 9"; only after it has ended.
  std::string HowEnded() const;

 private:
  pid_t pid_ = -1;
  std::string name_;
  std::optional<int> status_;
};

// Where a process runs.
struct SpawnOptions {
  std::vector<std::string> argv;  // argv[0]: a path or a name looked up in PATH
  std::map<std::string, std::string> env;
  std::string cwd;  // "": ours
  std::string log;  // stdout and stderr are appended to this file; "": stdout and stderr are ours
  int in = -1;      // stdin, default /dev/null
  int out = -1;     // stdout, before `log`
  int keep = -1;    // a descriptor the process inherits under the same number
  // Open namespace descriptors to enter; -1: ours.
  int pid_ns = -1;
  int mount_ns = -1;
  int net_ns = -1;
  int new_namespaces = 0;  // CLONE_NEW… flags
};

// Throws std::system_error naming the program when it cannot be started.
Process Spawn(const SpawnOptions& options);

struct RunResult {
  int exit = 0;  // 128 + signal when it was killed
  std::string out;
};
// Runs to the end with `input` on stdin (at most 60,000 bytes); its stderr goes with stdout.
// Throws std::runtime_error with what it printed when it is still running after `timeout`.
RunResult Run(SpawnOptions options, const std::string& input = "",
              std::chrono::milliseconds timeout = std::chrono::seconds(60));

// Clock ticks since boot at which a process started, from /proc: with the pid it names one process
// for good. nullopt when there is none.
std::optional<std::uint64_t> ProcessStartTime(pid_t pid);

// The namespaces of a cluster (processes, mounts, network), held by one process that lives as long
// as this object's process does: when that is killed, even with SIGKILL, the kernel ends everything
// in them.
class Sandbox {
 public:
  explicit Sandbox(const std::string& node_init);

  int pid_ns() const { return pid_ns_.get(); }
  int mount_ns() const { return mount_ns_.get(); }
  int net_ns() const { return net_ns_.get(); }
  pid_t pid() const { return process_.pid(); }
  std::string NetworkNamespacePath() const { return "/proc/" + std::to_string(pid()) + "/ns/net"; }
  // Kills everything in the namespaces. Whoever has started processes in them reaps those before
  // this object is destroyed: the kernel lets the first process of a PID namespace go only after
  // all others (zap_pid_ns_processes).
  void KillAll() { process_.Signal(SIGKILL); }

 private:
  UniqueFd owner_;  // its closing ends the sandbox
  UniqueFd pid_ns_, mount_ns_, net_ns_;
  Process process_;
};

// Runs `make` on a thread that has entered a network namespace, e.g. to create a socket there.
void InNetworkNamespace(int net_ns, const std::function<void()>& make);

}  // namespace pointsman::e2e
