#include "node-agent/agent/shown_state.h"

namespace pointsman::agent {

void ShownState::Set(const ModeState& modes, const Steps& steps, const ServiceModel& model,
                     const LocalPolicies& policies, size_t service_warnings,
                     const std::vector<kube::NeighbourStatus>& neighbours,
                     const ProviderState& provider) {
  const std::lock_guard lock(mutex_);
  modes_ = modes;
  steps_ = steps;
  counts_.service_count = model.service_count;
  counts_.endpoint_count = model.endpoint_count;
  policies_ = policies;
  service_warnings_ = service_warnings;
  neighbours_ = neighbours;
  provider_ = provider;
}

void ShownState::Show(Metrics& metrics) const {
  const std::lock_guard lock(mutex_);
  metrics.SetState(modes_, counts_, service_warnings_);
  metrics.SetNeighbours(neighbours_, modes_.desired);
  metrics.SetProvider(provider_);
  metrics.SetSteps(steps_);
  metrics.SetLocalPolicies(policies_);
}

std::string ShownState::ActiveMode() const {
  const std::lock_guard lock(mutex_);
  return modes_.active && modes_.synced_once ? std::string(kube::ToString(*modes_.active)) : "";
}

}  // namespace pointsman::agent
