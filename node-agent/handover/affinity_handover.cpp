#include "node-agent/handover/affinity_handover.h"

#include <algorithm>
#include <exception>

#include <spdlog/spdlog.h>

#include "kube/pointsman/mode.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/guarded.h"

namespace pointsman::agent {

std::vector<ClientBinding> ReadBindings(Dataplane& from, const ServiceModel& model) {
  const bool any = std::any_of(model.entries.begin(), model.entries.end(), [](const auto& each) {
    return each.second->affinity_timeout.count() > 0;
  });
  if (!any) return {};
  try {
    return from.Bindings(model);
  } catch (const std::exception& error) {
    spdlog::warn("cannot read {}'s session affinity; its clients will be rebalanced: {}",
                 kube::ToString(from.mode()), error.what());
    return {};
  }
}

void WriteBindings(Dataplane& to, const ServiceModel& model,
                   const std::vector<ClientBinding>& bindings) {
  if (bindings.empty()) return;
  const SyncResult result =
      Guarded(kube::ToString(to.mode()), [&] { return to.Bind(model, bindings); });
  if (result.ok()) {
    spdlog::info("the session affinity of {} clients was kept", bindings.size());
  } else {
    spdlog::warn("the session affinity of {} clients was not kept for all: {}", bindings.size(),
                 Describe(result.problems));
  }
}

}  // namespace pointsman::agent
