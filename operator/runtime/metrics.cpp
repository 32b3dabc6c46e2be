#include "operator/runtime/metrics.h"

#include <nlohmann/json.hpp>
#include <prometheus/text_serializer.h>

#include "kube/pointsman/rollout_gates.h"
#include "kube/serve/cumulative.h"

namespace pointsman::op {
namespace {

prometheus::Counter& MakeCounter(prometheus::Registry& registry, const char* name,
                                 const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Gauge& MakeGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Family<prometheus::Gauge>& MakeFamily(prometheus::Registry& registry, const char* name,
                                                  const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

prometheus::Family<prometheus::Counter>& MakeCounterFamily(prometheus::Registry& registry,
                                                           const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::MetricFamily GaugeFamily(const char* name, const char* help) {
  return {name, help, prometheus::MetricType::Gauge, {}};
}

void AddTo(prometheus::MetricFamily& family, std::vector<prometheus::ClientMetric::Label> labels,
           double value) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  family.metric.push_back(std::move(metric));
}

}  // namespace

Metrics::Metrics()
    : reconciles_(MakeCounter(registry_, "pointsman_operator_reconciles_total",
                              "Passes over all ProxyConfigurations and nodes.")),
      reconcile_errors_(MakeCounter(registry_, "pointsman_operator_reconcile_errors_total",
                                    "Passes in which a write failed; they are repeated.")),
      plan_seconds_(prometheus::BuildHistogram()
                        .Name("pointsman_operator_plan_duration_seconds")
                        .Help("Time that a pass takes to decide what to write.")
                        .Register(registry_)
                        .Add({}, prometheus::Histogram::BucketBoundaries{0.001, 0.005, 0.01, 0.02,
                                                                         0.05, 0.1, 0.5, 2})),
      reconcile_seconds_(
          prometheus::BuildHistogram()
              .Name("pointsman_operator_reconcile_duration_seconds")
              .Help("Time of a pass, with its writes.")
              .Register(registry_)
              .Add({}, prometheus::Histogram::BucketBoundaries{0.001, 0.005, 0.02, 0.1, 0.5, 2, 10,
                                                               60})),
      leader_(MakeGauge(registry_, "pointsman_operator_leader",
                        "1 on the replica that acts, 0 on those that stand by.")),
      bound_nodes_(MakeGauge(registry_, "pointsman_operator_kube_proxy_bound_nodes",
                             "Nodes that a label binds to a revision of kube-proxy's "
                             "configuration.")),
      queue_depth_(
          MakeGauge(registry_, "pointsman_operator_workqueue_depth", "Passes that are due.")),
      queue_adds_(MakeCounter(registry_, "pointsman_operator_workqueue_adds_total",
                              "Passes that were queued.")),
      queue_retries_(MakeCounter(registry_, "pointsman_operator_workqueue_retries_total",
                                 "Passes that were queued after a failure.")),
      watch_synced_(MakeFamily(registry_, "pointsman_operator_watch_synced",
                               "1 when the cache of that resource is complete.")),
      watch_errors_(MakeCounterFamily(registry_, "pointsman_operator_watch_errors_total",
                                      "Lists and watches of the API server that failed.")),
      watch_decode_errors_(MakeCounterFamily(registry_,
                                             "pointsman_operator_watch_decode_errors_total",
                                             "How often an object could not be decoded.")),
      watch_undecodable_(MakeFamily(registry_, "pointsman_operator_watch_undecodable",
                                    "Objects that cannot be decoded now (100: as many or more).")) {
}

void Metrics::Planned(std::chrono::duration<double> took) {
  plan_seconds_.Observe(took.count());
}

void Metrics::Reconciled(std::chrono::duration<double> took, bool failed) {
  reconciles_.Increment();
  if (failed) reconcile_errors_.Increment();
  reconcile_seconds_.Observe(took.count());
}

void Metrics::BeginQueue() {
  const std::lock_guard lock(mutex_);
  earlier_adds_ = static_cast<uint64_t>(queue_adds_.Value());
  earlier_retries_ = static_cast<uint64_t>(queue_retries_.Value());
}

void Metrics::SetQueue(size_t depth, uint64_t adds, uint64_t retries) {
  const std::lock_guard lock(mutex_);
  queue_depth_.Set(static_cast<double>(depth));
  kube::RaiseTo(queue_adds_, earlier_adds_ + adds);
  kube::RaiseTo(queue_retries_, earlier_retries_ + retries);
}

void Metrics::SetWatch(const std::string& resource, bool synced, uint64_t errors,
                       uint64_t decode_errors, size_t undecodable) {
  const prometheus::Labels labels{{"resource", resource}};
  watch_synced_.Add(labels).Set(synced ? 1 : 0);
  kube::RaiseTo(watch_errors_.Add(labels), errors);
  kube::RaiseTo(watch_decode_errors_.Add(labels), decode_errors);
  watch_undecodable_.Add(labels).Set(static_cast<double>(undecodable));
}

void Metrics::SetConfigurations(std::map<std::string, kube::ProxyConfigurationStatus> statuses) {
  const std::lock_guard lock(mutex_);
  statuses_ = std::move(statuses);
}

std::string Metrics::Render() const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  prometheus::MetricFamily nodes = GaugeFamily(
      "pointsman_operator_nodes", "Nodes of a ProxyConfiguration, by what holds for them.");
  prometheus::MetricFamily modes = GaugeFamily("pointsman_operator_node_modes",
                                               "Nodes of a ProxyConfiguration, by running mode.");
  prometheus::MetricFamily phases = GaugeFamily("pointsman_operator_rollout_phase",
                                                "1 for the phase a ProxyConfiguration is in.");
  prometheus::MetricFamily gates =
      GaugeFamily("pointsman_operator_tripped_gates",
                  "Nodes on which a gate stopped the rollout of a ProxyConfiguration.");
  prometheus::MetricFamily progress =
      GaugeFamily("pointsman_operator_rollout_progress_ratio",
                  "Nodes that run the update revision, of all nodes of a ProxyConfiguration.");
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, status] : statuses_) {
      const auto count = [&, &configuration = name](const char* state, int64_t value) {
        AddTo(nodes, {{"configuration", configuration}, {"state", state}},
              static_cast<double>(value));
      };
      count("desired", status.nodes.desired);
      count("updated", status.nodes.updated);
      count("ready", status.nodes.ready);
      count("fallback", status.nodes.fallback);
      count("degraded", status.nodes.degraded);
      for (const auto& [mode, value] : status.modes) {
        AddTo(modes, {{"configuration", name}, {"mode", mode}}, static_cast<double>(value));
      }
      // Also those that have not tripped: what alerts look at is there before.
      std::map<std::string, int> tripped;
      const nlohmann::json all = kube::ToJson(kube::RolloutGates{});
      for (const auto& gate : all.items())
        tripped.try_emplace(gate.key());
      for (const kube::TrippedGate& gate : status.tripped_gates)
        ++tripped[gate.gate];
      for (const auto& [gate, of_gate] : tripped)
        AddTo(gates, {{"configuration", name}, {"gate", gate}}, of_gate);
      AddTo(phases, {{"configuration", name}, {"phase", status.phase}}, 1);
      const double desired = static_cast<double>(status.nodes.desired);
      AddTo(progress, {{"configuration", name}},
            desired > 0 ? static_cast<double>(status.nodes.updated) / desired : 1);
    }
  }
  for (prometheus::MetricFamily* family : {&nodes, &modes, &phases, &gates, &progress}) {
    families.push_back(std::move(*family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace pointsman::op
