// The operator's metrics, in Prometheus' text form.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "kube/pointsman/proxy_configuration.h"

namespace pointsman::op {

// Thread-safe.
class Metrics {
 public:
  Metrics();

  // What a pass has decided in that time, before its first write.
  void Planned(std::chrono::duration<double> took);
  void Reconciled(std::chrono::duration<double> took, bool failed);
  void SetLeader(bool leader) { leader_.Set(leader ? 1 : 0); }
  // This replica leads with a new queue, which counts from 0.
  void BeginQueue();
  void SetQueue(size_t depth, uint64_t adds, uint64_t retries);
  // Of the cache of one resource: objects that could not be read, in all and now.
  void SetWatch(const std::string& resource, bool synced, uint64_t errors, uint64_t decode_errors,
                size_t undecodable);
  // What is shown of the ProxyConfigurations from now on, by name.
  void SetConfigurations(std::map<std::string, kube::ProxyConfigurationStatus> statuses);

  // Nodes that a label binds to a revision of a stock kube-proxy's file.
  void SetBoundNodes(size_t nodes) { bound_nodes_.Set(static_cast<double>(nodes)); }

  std::string Render() const;

 private:
  prometheus::Registry registry_;
  prometheus::Counter& reconciles_;
  prometheus::Counter& reconcile_errors_;
  prometheus::Histogram& plan_seconds_;
  prometheus::Histogram& reconcile_seconds_;
  prometheus::Gauge& leader_;
  prometheus::Gauge& bound_nodes_;
  prometheus::Gauge& queue_depth_;
  prometheus::Counter& queue_adds_;
  prometheus::Counter& queue_retries_;
  prometheus::Family<prometheus::Gauge>& watch_synced_;
  prometheus::Family<prometheus::Counter>& watch_errors_;
  prometheus::Family<prometheus::Counter>& watch_decode_errors_;
  prometheus::Family<prometheus::Gauge>& watch_undecodable_;
  mutable std::mutex mutex_;
  // What the queues before this one have counted.
  uint64_t earlier_adds_ = 0;
  uint64_t earlier_retries_ = 0;
  std::map<std::string, kube::ProxyConfigurationStatus> statuses_;
};

}  // namespace pointsman::op
