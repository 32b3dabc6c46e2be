// Feeds the planning from watches and performs its plans.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "kube/client/client.h"
#include "kube/events/event_recorder.h"
#include "kube/queue/work_queue.h"
#include "operator/plan/sightings.h"
#include "operator/runtime/cluster_caches.h"
#include "operator/runtime/metrics.h"
#include "operator/runtime/plan_writer.h"
#include "operator/runtime/tenure.h"

namespace pointsman::op {

// HasSynced and UpdateMetrics are thread-safe.
class Controller {
 public:
  // `ns`: where the ControllerRevisions live. `client` and `metrics` outlive this.
  Controller(kube::Client& client, std::string ns, KubeProxyName kube_proxy, Metrics& metrics);

  // Starts the watches; also those who stand by watch, and take over warm.
  void Start() { caches_.Start(); }
  // The caches are complete.
  bool HasSynced() const { return caches_.HasSynced(); }
  // Acts until `stop`: only ever one process of a cluster does. `held` says whether this one still
  // may, and is asked right before each write (kube::Leadership::Held): when it says no, or once
  // `stop` is requested, nothing more is written, also in the middle of a pass. Throws
  // kube::ApiError or kube::TransportError when the first look at the cluster fails.
  void Lead(std::stop_token stop, std::function<bool()> held);
  // For /metrics, before Metrics::Render.
  void UpdateMetrics() const;

 private:
  void Gather();
  void EmitArrival(const kube::NodeProxy& before, const kube::NodeProxy& after);
  bool Pass(kube::WorkQueue& queue, PlanWriter& writer);
  std::shared_ptr<kube::WorkQueue> Queue() const;
  void SetQueue(std::shared_ptr<kube::WorkQueue> queue);
  void UpdateQueueMetrics() const;

  kube::Client& client_;
  const std::string ns_;
  const KubeProxyName kube_proxy_;
  Metrics& metrics_;
  Tenure tenure_;
  kube::Client event_client_;
  kube::EventRecorder recorder_;
  mutable std::mutex queue_mutex_;
  std::shared_ptr<kube::WorkQueue> queue_;  // null: not leading
  std::atomic<bool> gathering_{false};
  Sightings sightings_;  // the worker's own
  // Last: its threads use all of the above.
  ClusterCaches caches_;
};

}  // namespace pointsman::op
