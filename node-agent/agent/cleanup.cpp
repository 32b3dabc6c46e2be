#include "node-agent/agent/cleanup.h"

#include <cstdint>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include <spdlog/spdlog.h>

#include "node-agent/agent/agent_lock.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/kube_proxy/hook_hold.h"

namespace pointsman::agent {
// CapEff of /proc/self/status.
bool MayChangeTheNetwork() {
  constexpr uint64_t kNetAdmin = uint64_t{1} << 12;  // CAP_NET_ADMIN
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t effective = 0;
    if (word == "CapEff:" && status >> std::hex >> effective) return (effective & kNetAdmin) != 0;
  }
  return true;  // then the kernel says so itself
}

int RunCleanup(const Options& options) {
  if (!MayChangeTheNetwork()) {
    spdlog::error("--cleanup needs root, or the capability CAP_NET_ADMIN; nothing was changed");
    return 1;
  }
  AgentLock lock;
  if (const std::string holder = lock.TryTake(); !holder.empty()) {
    spdlog::error(
        "nothing was removed: an agent runs in this network namespace and would write it all "
        "again ({}). Stop it first",
        holder);
    return 1;
  }
  KernelEnvironment environment(options.modules_root.string(), "", options.forwarder_launcher,
                                options.log_format.value_or("text"));
  // What an earlier agent may have served.
  if (const std::string refused = environment.ServeIpv6(); !refused.empty())
    spdlog::info("this kernel has no IPv6 rules to remove: {}", refused);
  ModeController modes(environment);
  std::vector<SyncProblem> problems = modes.RemoveAll();
  try {
    kube_proxy::ReleaseHooks(options.modules_root.string());
  } catch (const std::exception& error) {
    problems.push_back(
        {.object = std::string("table ") + kube_proxy::kHoldTable, .message = error.what()});
  }
  for (const SyncProblem& problem : problems) {
    spdlog::error("not removed: {}: {}", problem.object, problem.message);
  }
  if (problems.empty()) spdlog::info("removed all Pointsman rules from this node");
  return problems.empty() ? 0 : 1;
}

}  // namespace pointsman::agent
