// Stale connection tracking entries (conntrack/stale_flows.h) go after each change.
#pragma once

#include <utility>

#include "node-agent/agent/metrics.h"
#include "node-agent/conntrack/stale_flows.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class FlowCleanup {
 public:
  FlowCleanup(Metrics& metrics, StaleFlows::LooksAfterItsOwn looks_after_its_own)
      : metrics_(metrics), flows_(std::move(looks_after_its_own)) {}

  // It is not known which changes are in the kernel: the next full sync is followed by a clean-up
  // of everything.
  void Doubt() { in_doubt_ = true; }
  // After `delta` was written; `full`: by a full sync. What fails is logged and tried again.
  void Clean(const ServiceModel& model, const ModelDelta& delta, bool full);

 private:
  Metrics& metrics_;
  StaleFlows flows_;
  bool in_doubt_ = false;  // what one clean-up left behind is in no later delta
};

}  // namespace pointsman::agent
