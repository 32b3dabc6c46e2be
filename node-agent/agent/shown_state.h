// What the sync thread leaves for the threads that serve /metrics and /proxyMode.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

#include "kube/pointsman/node_proxy.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/agent/provider_state.h"
#include "node-agent/handover/mode_state.h"
#include "node-agent/handover/steps.h"
#include "node-agent/model/local_policies.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// Thread-safe.
class ShownState {
 public:
  // `service_warnings`: Services that are not served as they are written.
  void Set(const ModeState& modes, const Steps& steps, const ServiceModel& model,
           const LocalPolicies& policies, size_t service_warnings,
           const std::vector<kube::NeighbourStatus>& neighbours, const ProviderState& provider);
  void Show(Metrics& metrics) const;
  // "" before the first sync.
  std::string ActiveMode() const;

 private:
  mutable std::mutex mutex_;
  ModeState modes_;
  Steps steps_;
  ServiceModel counts_;  // without entries
  LocalPolicies policies_;
  size_t service_warnings_ = 0;
  std::vector<kube::NeighbourStatus> neighbours_;
  ProviderState provider_;
};

}  // namespace pointsman::agent
