// The agent's metrics: kube-proxy's own names where kube-proxy has the figure (dashboards and
// alerts go on working), pointsman_agent_* for the rest. docs/metrics.md lists them.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "kube/client/observed_transport.h"
#include "kube/pointsman/mode.h"
#include "kube/pointsman/node_proxy.h"
#include "node-agent/agent/netlink_metrics.h"
#include "node-agent/agent/provider_metrics.h"
#include "node-agent/agent/traffic_metrics.h"
#include "node-agent/conntrack/stale_flows.h"
#include "node-agent/handover/mode_state.h"
#include "node-agent/handover/steps.h"
#include "node-agent/model/local_policies.h"
#include "node-agent/model/service_model.h"
#include "node-agent/sync/change_inbox.h"
#include "node-agent/userspace/forwarder_metrics.h"

namespace pointsman::agent {

// Thread-safe, as prometheus-cpp is.
class Metrics {
 public:
  explicit Metrics(const std::string& version);

  // The text exposition format. Asks the forwarders, if there are any.
  std::string Render();

  void ChangesSeen(size_t services, size_t endpoint_slices);
  void SyncDone(bool full, std::chrono::nanoseconds took);
  // Counted where ModeTraits::failed_syncs_metric names a counter.
  void SyncFailed(kube::Mode mode);
  // Tools that write rules failed so many times in a sync; `partial`: which wrote a change only.
  void ToolsFailed(uint64_t times, bool partial);
  // From the watch event to the kernel.
  void ChangeReachedKernel(std::chrono::nanoseconds took);
  // From what made the endpoints change, as the EndpointSlice says, to the kernel.
  void NetworkProgrammed(std::chrono::nanoseconds took);
  void ConntrackCleaned(std::chrono::nanoseconds took, uint64_t deleted);
  void SetPending(const ChangeInbox::Pending& pending);
  void SetLocalPolicies(const LocalPolicies& policies);
  // A request to the API server at `host` ("10.0.0.1:6443").
  void RequestDone(const std::string& host, const kube::RequestOutcome& outcome);
  // `service_warnings`: Services that are not served as specified.
  void SetState(const ModeState& state, const ServiceModel& model, size_t service_warnings);
  // All that were found; of them is shown how the desired mode gets along with each.
  void SetNeighbours(const std::vector<kube::NeighbourStatus>& neighbours,
                     std::optional<kube::Mode> desired);
  void SetProvider(const ProviderState& state) { provider_.Set(state); }
  void SetSteps(const Steps& steps);
  void SetWatch(const std::string& resource, uint64_t errors, bool synced, uint64_t decode_errors,
                size_t undecodable);
  // An answer of :10256/healthz or /livez.
  void HealthzAnswered(int status);
  void LivezAnswered(int status);
  void SetStatusWrites(uint64_t writes, uint64_t failures);

 private:
  void SetHandovers(const ModeState& state);
  void SetModules(const std::vector<kube::ModuleStatus>& modules);
  void ReadProcess();
  void ReadProcessMemory() const;

  prometheus::Registry registry_;
  ForwarderMetrics forwarders_;
  NetlinkMetrics netlink_;  // process_mutex_'s
  TrafficMetrics traffic_;  // process_mutex_'s
  ProviderMetrics provider_;
  prometheus::Family<prometheus::Gauge>& mode_;
  prometheus::Family<prometheus::Gauge>& module_;
  prometheus::Family<prometheus::Counter>& handovers_;
  prometheus::Family<prometheus::Counter>& drained_;
  prometheus::Family<prometheus::Gauge>& neighbour_;
  std::mutex modules_mutex_;
  std::set<prometheus::Gauge*> module_states_;  // of module_; one may be there twice in a list
  std::mutex neighbours_mutex_;
  std::set<prometheus::Gauge*> neighbours_;  // of neighbour_
  prometheus::Family<prometheus::Counter>& watch_errors_;
  prometheus::Family<prometheus::Gauge>& watch_synced_;
  prometheus::Family<prometheus::Counter>& watch_decode_errors_;
  prometheus::Family<prometheus::Gauge>& watch_undecodable_;
  prometheus::Family<prometheus::Counter>& healthz_;
  prometheus::Family<prometheus::Counter>& livez_;
  prometheus::Family<prometheus::Gauge>& iptables_rules_;
  prometheus::Family<prometheus::Gauge>& no_local_endpoints_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& request_duration_;
  prometheus::Gauge& preflight_passed_;
  prometheus::Gauge& fallback_;
  prometheus::Gauge& reverted_;
  prometheus::Counter& reverts_;
  prometheus::Gauge& waiting_;
  prometheus::Gauge& draining_connections_;
  prometheus::Gauge& problems_;
  prometheus::Gauge& warnings_;
  prometheus::Gauge& refused_entries_;
  prometheus::Gauge& failing_steps_;
  prometheus::Family<prometheus::Counter>& step_failures_;
  prometheus::Counter& repaired_;
  prometheus::Gauge& services_;
  prometheus::Gauge& endpoints_;
  prometheus::Counter& status_writes_;
  prometheus::Counter& status_failures_;
  prometheus::Histogram& sync_duration_;
  prometheus::Histogram& full_sync_duration_;
  prometheus::Histogram& partial_sync_duration_;
  prometheus::Histogram& change_duration_;
  prometheus::Histogram& programming_duration_;
  prometheus::Histogram& conntrack_duration_;
  prometheus::Counter& conntrack_deleted_;
  prometheus::Counter& restore_failures_;
  prometheus::Counter& partial_restore_failures_;
  std::map<kube::Mode, prometheus::Counter*> failed_syncs_;
  prometheus::Gauge& services_pending_;
  prometheus::Gauge& endpoints_pending_;
  prometheus::Gauge& last_sync_;
  prometheus::Gauge& last_queued_;
  prometheus::Counter& service_changes_;
  prometheus::Counter& endpoint_changes_;
  std::mutex process_mutex_;
  prometheus::Counter& cpu_seconds_;
  prometheus::Gauge& resident_bytes_;
  prometheus::Gauge& virtual_bytes_;
  prometheus::Gauge& open_files_;
  prometheus::Gauge& max_files_;
};

}  // namespace pointsman::agent
