#include "node-agent/agent/flow_cleanup.h"

#include <chrono>
#include <exception>

#include <spdlog/spdlog.h>

namespace pointsman::agent {

void FlowCleanup::Clean(const ServiceModel& model, const ModelDelta& delta, bool full) {
  if (delta.changes.empty() && !(in_doubt_ && full)) return;
  try {
    const auto begin = std::chrono::steady_clock::now();
    const StaleFlows::Result result =
        in_doubt_ ? flows_.CleanAll(model) : flows_.Clean(model, delta);
    in_doubt_ = !result.sync.ok();
    if (result.looked_at > 0) {
      metrics_.ConntrackCleaned(std::chrono::steady_clock::now() - begin,
                                result.sync.kernel_writes);
    }
    for (const SyncProblem& problem : result.sync.problems)
      spdlog::error("stale flow {}: {}", problem.object, problem.message);
  } catch (const std::exception& error) {
    in_doubt_ = true;
    spdlog::error("stale connection tracking entries could not be removed: {}", error.what());
  }
}

}  // namespace pointsman::agent
