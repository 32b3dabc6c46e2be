// Feeds the planning from watches and performs its plans.
#pragma once

#include <functional>
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
  // Acts until `stop`: only ever one process of a cluster does. `held` says whether this one still
  // may, and is asked right before each write (kube::Leadership::Held): when it says no, or once
  // `stop` is requested, nothing more is written, also in the middle of a pass. Throws
  // kube::ApiError or kube::TransportError when the first look at the cluster fails.
  void Lead(std::stop_token stop, std::function<bool()> held);
  // For /metrics, before Metrics::Render.
  void UpdateMetrics() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::op
