// Feeds the planning from watches and performs its plans.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "kube/client/client.h"
#include "operator/runtime/metrics.h"

namespace pointsman::op {

class Controller {
 public:
  // `ns`: where the ControllerRevisions live. `client` and `metrics` outlive this.
  Controller(kube::Client& client, std::string ns, Metrics& metrics);
  ~Controller();

  // Starts the watches; also those who stand by watch, and take over warm.
  void Start();
  // The caches are complete.
  bool HasSynced() const;
  // Acts until `stop`: only ever one process of a cluster does. Throws kube::ApiError or
  // kube::TransportError when the first look at the cluster fails.
  void Lead(std::stop_token stop);
  // For /metrics, before Metrics::Render.
  void UpdateQueueMetrics() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::op
