// Keeps a second agent from a node: each would take the other's rules for damage and repair them,
// again and again. What is held is the name of an abstract unix socket (unix(7)). The kernel keeps
// such names per network namespace, as it does the rules, so an agent in a Pod and one that systemd
// has started meet there whatever else they do not share; and it gives the name back in the moment
// in which a process ends, however it ends.
#pragma once

#include <chrono>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace pointsman::agent {

// Of the network namespace of the thread that takes it; given back with this object. Not
// thread-safe.
class AgentLock {
 public:
  // As `ss -xl` shows it, after an '@'.
  static constexpr std::string_view kName = "pointsman-node-agent";
  // An agent that was told to end may still drain userspace mode's connections (20 s), within the
  // manifest's terminationGracePeriodSeconds.
  static constexpr std::chrono::seconds kPatience{35};

  // Takes it at once, or returns who has it: "process 17 (/usr/bin/pointsman-node-agent …)". "": it
  // is taken. A name that another user holds counts as taken, which is said in the log: it is no
  // agent's, and a stranger must not keep the node's from starting. Throws std::system_error.
  std::string TryTake();
  // Waits for who has it to end. Throws std::runtime_error that names it after `patience`. False:
  // `stop` was requested.
  bool Take(std::chrono::milliseconds patience, const std::stop_token& stop);

 private:
  UniqueFd fd_;
};

}  // namespace pointsman::agent
