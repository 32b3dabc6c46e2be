#include "node-agent/agent/metrics.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include "kube/serve/cumulative.h"
#include "node-agent/dataplane/mode_traits.h"

namespace pointsman::agent {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

// kube-proxy's own: 1 ms doubling, 15 times.
Buckets SyncBuckets() {
  Buckets buckets;
  for (double bound = 0.001; buckets.size() < 15; bound *= 2)
    buckets.push_back(bound);
  return buckets;
}

// kube-proxy's own, for times that begin with a pod's change.
Buckets ProgrammingBuckets() {
  Buckets buckets{0.25, 0.5};
  buckets.reserve(80);
  for (int second = 1; second < 60; ++second)
    buckets.push_back(second);
  for (int second = 60; second < 120; second += 5)
    buckets.push_back(second);
  for (int second = 120; second <= 300; second += 30)
    buckets.push_back(second);
  return buckets;
}

// client-go's own.
Buckets RequestBuckets() {
  return {0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60};
}

// From 0.1 ms: what a delta takes is far below kube-proxy's.
Buckets ChangeBuckets() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
          0.25,   0.5,     1,      2,     5,      10,    20,   60,    120,  300};
}

prometheus::Gauge& Gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Histogram& Histogram(prometheus::Registry& registry, const char* name, const char* help,
                                 const Buckets& buckets) {
  return BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

prometheus::Counter& Counter(prometheus::Registry& registry, const char* name, const char* help) {
  return BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

double WallClock() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Metrics::Metrics(const std::string& version)
    : forwarders_(registry_, ForwarderSettings{}.directory),
      netlink_(registry_),
      traffic_(registry_),
      provider_(registry_),
      mode_(BuildGauge()
                .Name("pointsman_agent_mode")
                .Help("1 for the desired, the active and the draining mode.")
                .Register(registry_)),
      module_(BuildGauge()
                  .Name("pointsman_agent_kernel_module")
                  .Help("1 for the state of each kernel module that the desired mode needs.")
                  .Register(registry_)),
      handovers_(BuildCounter()
                     .Name("pointsman_agent_handovers_total")
                     .Help("How often new connections went from one mode to another; the way back "
                           "of a reverted handover too.")
                     .Register(registry_)),
      drained_(BuildCounter()
                   .Name("pointsman_agent_drained_connections_total")
                   .Help("Connections of modes that drained: ended by themselves, or at the drain "
                         "timeout cut, or left to connection tracking.")
                   .Register(registry_)),
      neighbour_(BuildGauge()
                     .Name("pointsman_agent_neighbour")
                     .Help("1 for each neighbour found on the node, with how the desired mode gets "
                           "along with it.")
                     .Register(registry_)),
      watch_errors_(BuildCounter()
                        .Name("pointsman_agent_watch_errors_total")
                        .Help("Lists and watches of the API server that failed.")
                        .Register(registry_)),
      watch_synced_(BuildGauge()
                        .Name("pointsman_agent_watch_synced")
                        .Help("1 when the cache of that resource is complete.")
                        .Register(registry_)),
      watch_decode_errors_(BuildCounter()
                               .Name("pointsman_agent_watch_decode_errors_total")
                               .Help("How often an object could not be decoded.")
                               .Register(registry_)),
      watch_undecodable_(BuildGauge()
                             .Name("pointsman_agent_watch_undecodable")
                             .Help("Objects that cannot be read now (100: as many or more): what "
                                   "was served of them goes on.")
                             .Register(registry_)),
      healthz_(BuildCounter()
                   .Name("kubeproxy_proxy_healthz_total")
                   .Help("Cumulative proxy healthz HTTP status.")
                   .Register(registry_)),
      livez_(BuildCounter()
                 .Name("kubeproxy_proxy_livez_total")
                 .Help("Cumulative proxy livez HTTP status.")
                 .Register(registry_)),
      iptables_rules_(BuildGauge()
                          .Name("kubeproxy_sync_proxy_rules_iptables_total")
                          .Help("Total number of iptables rules owned by the proxy.")
                          .Register(registry_)),
      no_local_endpoints_(
          BuildGauge()
              .Name("kubeproxy_sync_proxy_rules_no_local_endpoints_total")
              .Help("Service ports with a Local traffic policy and no endpoint on this node.")
              .Register(registry_)),
      requests_(BuildCounter()
                    .Name("rest_client_requests_total")
                    .Help("Requests to the API server, by status code, method and host.")
                    .Register(registry_)),
      request_duration_(BuildHistogram()
                            .Name("rest_client_request_duration_seconds")
                            .Help("Until the API server's answer began, in seconds.")
                            .Register(registry_)),
      preflight_passed_(Gauge(registry_, "pointsman_agent_preflight_passed",
                              "1 when this node can run the desired mode.")),
      fallback_(Gauge(registry_, "pointsman_agent_fallback",
                      "1 when another mode than the desired one runs.")),
      reverted_(Gauge(registry_, "pointsman_agent_handover_reverted",
                      "1 when the handover to the desired mode was reverted.")),
      reverts_(Counter(registry_, "pointsman_agent_handovers_reverted_total",
                       "Handovers that were reverted.")),
      waiting_(Gauge(registry_, "pointsman_agent_handover_waiting",
                     "1 while a handover waits until others on the node are ready for it.")),
      draining_connections_(Gauge(registry_, "pointsman_agent_draining_connections",
                                  "Connections that the mode before still carries.")),
      problems_(Gauge(registry_, "pointsman_agent_sync_problems",
                      "Objects that the kernel refused in the last sync.")),
      warnings_(Gauge(registry_, "pointsman_agent_service_warnings",
                      "Services that are not served in every detail as specified.")),
      refused_entries_(Gauge(registry_, "pointsman_agent_refused_service_ports",
                             "Service ports of which the kernel refused something.")),
      failing_steps_(Gauge(registry_, "pointsman_agent_failing_steps",
                           "Steps, beside syncs, that failed and are tried again.")),
      step_failures_(BuildCounter()
                         .Name("pointsman_agent_step_failures_total")
                         .Help("Failures of steps beside syncs, by step.")
                         .Register(registry_)),
      repaired_(Counter(registry_, "pointsman_agent_repaired_objects_total",
                        "Objects that something else had changed and a resync repaired.")),
      services_(Gauge(registry_, "pointsman_agent_services", "Services that this node serves.")),
      endpoints_(Gauge(registry_, "pointsman_agent_endpoints",
                       "Endpoints of these Services, one a Service port.")),
      status_writes_(Counter(registry_, "pointsman_agent_status_writes_total",
                             "Writes of the NodeProxy status.")),
      status_failures_(Counter(registry_, "pointsman_agent_status_write_failures_total",
                               "Such writes that failed.")),
      sync_duration_(Histogram(registry_, "kubeproxy_sync_proxy_rules_duration_seconds",
                               "SyncProxyRules latency in seconds.", SyncBuckets())),
      full_sync_duration_(Histogram(registry_, "kubeproxy_sync_full_proxy_rules_duration_seconds",
                                    "SyncProxyRules latency in seconds for full resyncs.",
                                    SyncBuckets())),
      partial_sync_duration_(
          Histogram(registry_, "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                    "SyncProxyRules latency in seconds for partial resyncs.", SyncBuckets())),
      change_duration_(Histogram(registry_, "pointsman_agent_change_to_kernel_seconds",
                                 "From the watch event to the kernel, in seconds.",
                                 ChangeBuckets())),
      programming_duration_(Histogram(registry_, "kubeproxy_network_programming_duration_seconds",
                                      "In Cluster Network Programming Latency in seconds.",
                                      ProgrammingBuckets())),
      conntrack_duration_(
          Histogram(registry_, "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                    "Looking for stale connection tracking entries, in seconds.", SyncBuckets())),
      conntrack_deleted_(Counter(registry_, "kubeproxy_conntrack_reconciler_deleted_entries_total",
                                 "Stale connection tracking entries that were deleted.")),
      restore_failures_(Counter(registry_,
                                "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
                                "Cumulative proxy iptables restore failures.")),
      partial_restore_failures_(
          Counter(registry_, "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
                  "Cumulative proxy iptables partial restore failures.")),
      services_pending_(Gauge(registry_, "kubeproxy_sync_proxy_rules_service_changes_pending",
                              "Pending proxy rules Service changes.")),
      endpoints_pending_(Gauge(registry_, "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                               "Pending proxy rules Endpoint changes.")),
      last_sync_(Gauge(registry_, "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                       "The last time proxy rules were successfully synced.")),
      last_queued_(Gauge(registry_, "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                         "The last time a sync of proxy rules was queued.")),
      service_changes_(Counter(registry_, "kubeproxy_sync_proxy_rules_service_changes_total",
                               "Cumulative proxy rules Service changes.")),
      endpoint_changes_(Counter(registry_, "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                                "Cumulative proxy rules Endpoint changes.")),
      cpu_seconds_(Counter(registry_, "process_cpu_seconds_total",
                           "Total user and system CPU time spent in seconds.")),
      resident_bytes_(
          Gauge(registry_, "process_resident_memory_bytes", "Resident memory size in bytes.")),
      virtual_bytes_(
          Gauge(registry_, "process_virtual_memory_bytes", "Virtual memory size in bytes.")),
      open_files_(Gauge(registry_, "process_open_fds", "Number of open file descriptors.")),
      max_files_(Gauge(registry_, "process_max_fds", "Maximum number of open file descriptors.")) {
  BuildGauge()
      .Name("pointsman_agent_info")
      .Help("1, with the version.")
      .Register(registry_)
      .Add({{"version", version}})
      .Set(1);
  for (const ModeTraits& traits : AllModes()) {
    if (traits.failed_syncs_metric == nullptr) continue;
    failed_syncs_[traits.mode] = &Counter(registry_, traits.failed_syncs_metric,
                                          "Cumulative syncs of this mode that failed.");
  }
  Gauge(registry_, "process_start_time_seconds", "Start time of the process since unix epoch.")
      .Set(WallClock());
}

void Metrics::ReadProcess() {
  const std::lock_guard lock(process_mutex_);  // of two scrapes at once
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  netlink_.Read();
  traffic_.Read();
  cpu_seconds_.Increment(seconds(usage.ru_utime) + seconds(usage.ru_stime) - cpu_seconds_.Value());
  ReadProcessMemory();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    max_files_.Set(static_cast<double>(limit.rlim_cur));
  }
  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  // One of them is the listing's own.
  if (!error) open_files_.Set(static_cast<double>(std::distance(begin(files), end(files)) - 1));
}

void Metrics::ReadProcessMemory() const {
  std::ifstream statm("/proc/self/statm");
  double size = 0;
  double resident = 0;
  if (!(statm >> size >> resident)) return;
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  virtual_bytes_.Set(size * page);
  resident_bytes_.Set(resident * page);
}

std::string Metrics::Render() {
  ReadProcess();
  forwarders_.Read();
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

void Metrics::ChangesSeen(size_t services, size_t endpoint_slices) {
  service_changes_.Increment(static_cast<double>(services));
  endpoint_changes_.Increment(static_cast<double>(endpoint_slices));
  last_queued_.Set(WallClock());
}

void Metrics::SyncDone(bool full, std::chrono::nanoseconds took) {
  sync_duration_.Observe(Seconds(took));
  (full ? full_sync_duration_ : partial_sync_duration_).Observe(Seconds(took));
  last_sync_.Set(WallClock());
}

void Metrics::SyncFailed(kube::Mode mode) {
  const auto found = failed_syncs_.find(mode);
  if (found != failed_syncs_.end()) found->second->Increment();
}

void Metrics::ToolsFailed(uint64_t times, bool partial) {
  restore_failures_.Increment(static_cast<double>(times));
  if (partial) partial_restore_failures_.Increment(static_cast<double>(times));
}

void Metrics::ChangeReachedKernel(std::chrono::nanoseconds took) {
  change_duration_.Observe(Seconds(took));
}

void Metrics::NetworkProgrammed(std::chrono::nanoseconds took) {
  programming_duration_.Observe(Seconds(took));
}

void Metrics::ConntrackCleaned(std::chrono::nanoseconds took, uint64_t deleted) {
  conntrack_duration_.Observe(Seconds(took));
  conntrack_deleted_.Increment(static_cast<double>(deleted));
}

void Metrics::SetPending(const ChangeInbox::Pending& pending) {
  services_pending_.Set(static_cast<double>(pending.services));
  endpoints_pending_.Set(static_cast<double>(pending.endpoint_slices));
}

void Metrics::SetLocalPolicies(const LocalPolicies& policies) {
  no_local_endpoints_.Add({{"traffic_policy", "internal"}})
      .Set(static_cast<double>(policies.without_internal()));
  no_local_endpoints_.Add({{"traffic_policy", "external"}})
      .Set(static_cast<double>(policies.without_external()));
}

void Metrics::RequestDone(const std::string& host, const kube::RequestOutcome& outcome) {
  const std::string code = outcome.status == 0 ? "<error>" : std::to_string(outcome.status);
  requests_.Add({{"code", code}, {"method", outcome.method}, {"host", host}}).Increment();
  request_duration_.Add({{"verb", outcome.method}, {"host", host}}, RequestBuckets())
      .Observe(Seconds(outcome.latency));
}

void Metrics::SetState(const ModeState& state, const ServiceModel& model, size_t service_warnings) {
  for (const ModeTraits& traits : AllModes()) {
    const kube::Mode mode = traits.mode;
    const std::string name(kube::ToString(mode));
    mode_.Add({{"mode", name}, {"state", "desired"}}).Set(state.desired == mode ? 1 : 0);
    mode_.Add({{"mode", name}, {"state", "active"}})
        .Set(state.active == mode && state.synced_once ? 1 : 0);
    mode_.Add({{"mode", name}, {"state", "draining"}}).Set(state.draining == mode ? 1 : 0);
  }
  preflight_passed_.Set(state.preflight && state.preflight->passed ? 1 : 0);
  if (state.preflight) SetModules(state.preflight->modules);
  fallback_.Set(state.fallback_reason.empty() ? 0 : 1);
  reverted_.Set(state.reverted_reason.empty() ? 0 : 1);
  kube::RaiseTo(reverts_, state.reverts);
  SetHandovers(state);
  waiting_.Set(state.waits_for.empty() ? 0 : 1);
  draining_connections_.Set(static_cast<double>(state.draining_connections));
  problems_.Set(static_cast<double>(state.problems.size()));
  warnings_.Set(static_cast<double>(service_warnings));
  refused_entries_.Set(static_cast<double>(state.refused_entries));
  kube::RaiseTo(repaired_, state.repaired);
  for (const char* table : {"nat", "filter"}) {
    const auto rules = state.rules.find(table);
    iptables_rules_.Add({{"table", table}})
        .Set(rules == state.rules.end() ? 0 : static_cast<double>(rules->second));
  }
  services_.Set(static_cast<double>(model.service_count));
  endpoints_.Set(static_cast<double>(model.endpoint_count));
}

// All that there can be, at 0 before the first: an increase() does not see a series begin.
void Metrics::SetHandovers(const ModeState& state) {
  for (const ModeTraits& from : AllModes()) {
    for (const ModeTraits& to : AllModes()) {
      if (from.mode == to.mode) continue;
      const auto times = state.handovers.find({from.mode, to.mode});
      kube::RaiseTo(handovers_.Add({{"from", std::string(kube::ToString(from.mode))},
                                    {"to", std::string(kube::ToString(to.mode))}}),
                    times == state.handovers.end() ? 0 : times->second);
    }
  }
  kube::RaiseTo(drained_.Add({{"outcome", "ended"}}), state.drained.ended);
  kube::RaiseTo(drained_.Add({{"outcome", "cut"}}), state.drained.cut);
  kube::RaiseTo(drained_.Add({{"outcome", "left"}}),
                state.drained.left - std::min(state.drained.cut, state.drained.left));
}

void Metrics::SetNeighbours(const std::vector<kube::NeighbourStatus>& neighbours,
                            std::optional<kube::Mode> desired) {
  const std::lock_guard lock(neighbours_mutex_);
  for (prometheus::Gauge* shown : neighbours_)
    neighbour_.Remove(shown);
  neighbours_.clear();
  if (!desired) return;
  const std::string mode(kube::ToString(*desired));
  for (const kube::NeighbourStatus& neighbour : neighbours) {
    const auto verdict = neighbour.modes.find(mode);
    if (verdict == neighbour.modes.end()) continue;
    prometheus::Gauge& found =
        neighbour_.Add({{"neighbour", neighbour.name}, {"verdict", verdict->second}});
    found.Set(1);
    neighbours_.insert(&found);
  }
}

// Another mode needs other modules: those that it does not need would show their last state for
// ever.
void Metrics::SetModules(const std::vector<kube::ModuleStatus>& modules) {
  const std::lock_guard lock(modules_mutex_);
  for (prometheus::Gauge* shown : module_states_)
    module_.Remove(shown);
  module_states_.clear();
  for (const kube::ModuleStatus& module : modules) {
    for (const char* possible : {"Builtin", "Loaded", "LoadedNow", "Loadable", "Missing"}) {
      prometheus::Gauge& state = module_.Add({{"module", module.name}, {"state", possible}});
      state.Set(module.state == possible ? 1 : 0);
      module_states_.insert(&state);
    }
  }
}

void Metrics::SetSteps(const Steps& steps) {
  failing_steps_.Set(static_cast<double>(steps.failing().size()));
  for (const auto& [kind, times] : steps.failures())
    kube::RaiseTo(step_failures_.Add({{"step", kind}}), times);
}

void Metrics::SetWatch(const std::string& resource, uint64_t errors, bool synced,
                       uint64_t decode_errors, size_t undecodable) {
  kube::RaiseTo(watch_errors_.Add({{"resource", resource}}), errors);
  watch_synced_.Add({{"resource", resource}}).Set(synced ? 1 : 0);
  kube::RaiseTo(watch_decode_errors_.Add({{"resource", resource}}), decode_errors);
  watch_undecodable_.Add({{"resource", resource}}).Set(static_cast<double>(undecodable));
}

void Metrics::HealthzAnswered(int status) {
  healthz_.Add({{"code", std::to_string(status)}}).Increment();
}

void Metrics::LivezAnswered(int status) {
  livez_.Add({{"code", std::to_string(status)}}).Increment();
}

void Metrics::SetStatusWrites(uint64_t writes, uint64_t failures) {
  kube::RaiseTo(status_writes_, writes);
  kube::RaiseTo(status_failures_, failures);
}

}  // namespace pointsman::agent
