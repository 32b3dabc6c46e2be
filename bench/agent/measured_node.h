// The agent on one node of the test cluster, and what pointsman-bench-node there says of it.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "bench/agent/api_load.h"
#include "e2e/scenarios/world.h"

namespace pointsman::bench {

struct Usage {
  double resident_mb = 0;  // the agent now
  double peak_mb = 0;      // the agent and its child processes together, so far
  double cpu_seconds = 0;  // the agent and the child processes that have ended, so far
};

// Not thread-safe. Everything throws when the node or the agent ends before it should.
class MeasuredNode {
 public:
  using Clock = std::chrono::steady_clock;

  // Starts the agent. `reader` is one of MakeKernelReader's names; `iptables` "": the agent
  // chooses.
  MeasuredNode(e2e::World& world, const std::string& node, const std::string& reader, bool one_cpu,
               const std::string& iptables, const std::filesystem::path& log);
  ~MeasuredNode();  // ends the agent
  MeasuredNode(const MeasuredNode&) = delete;
  MeasuredNode& operator=(const MeasuredNode&) = delete;

  // Since the start of the agent's process.
  std::chrono::nanoseconds AwaitSynced(std::chrono::seconds timeout);
  Usage ReadUsage();
  // Before the change is applied …
  void Arm(const ReadinessChange& change);
  // … and after: when it was seen in the kernel.
  Clock::time_point AwaitDone();

 private:
  std::string ReadLine(std::chrono::seconds timeout);
  void Send(const std::string& line) const;
  [[noreturn]] void Fail(const std::string& why) const;

  const e2e::Node& node_;
  const std::filesystem::path log_;
  UniqueFd connection_;
  pid_t pid_ = -1;
  std::string received_;
};

}  // namespace pointsman::bench
