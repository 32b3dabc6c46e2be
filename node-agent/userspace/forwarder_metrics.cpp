#include "node-agent/userspace/forwarder_metrics.h"

namespace pointsman::agent {

using forwarder::Stats;

struct ForwarderMetrics::Metric {
  uint64_t Stats::*number;
  const char* name;
  const char* help;
  prometheus::Labels labels;
};

const std::vector<ForwarderMetrics::Metric>& ForwarderMetrics::Metrics() {
  constexpr const char* kBytes = "pointsman_forwarder_bytes_total";
  constexpr const char* kBytesHelp = "Payload bytes carried between clients and backends.";
  constexpr const char* kDatagrams = "pointsman_forwarder_datagrams_total";
  constexpr const char* kDatagramsHelp = "Datagrams carried between clients and backends.";
  constexpr const char* kFailed = "pointsman_forwarder_tcp_connections_failed_total";
  constexpr const char* kFailedHelp =
      "Clients' TCP connections that were reset without having reached a backend.";
  static const std::vector<Metric> metrics{
      {&Stats::accepted,
       "pointsman_forwarder_tcp_connections_total",
       "Clients' TCP connections that were accepted.",
       {}},
      {&Stats::retried,
       "pointsman_forwarder_tcp_connections_retried_total",
       "TCP connections that got a backend after another attempt had failed.",
       {}},
      {&Stats::without_backend, kFailed, kFailedHelp, {{"reason", "NoBackendAnswered"}}},
      {&Stats::refused_at_limit, kFailed, kFailedHelp, {{"reason", "Limit"}}},
      {&Stats::connect_failures,
       "pointsman_forwarder_backend_connect_failures_total",
       "Attempts to connect to a backend that failed.",
       {}},
      {&Stats::bytes_to_backends,
       kBytes,
       kBytesHelp,
       {{"protocol", "TCP"}, {"direction", "to_backend"}}},
      {&Stats::bytes_to_clients,
       kBytes,
       kBytesHelp,
       {{"protocol", "TCP"}, {"direction", "to_client"}}},
      {&Stats::udp_bytes_to_backends,
       kBytes,
       kBytesHelp,
       {{"protocol", "UDP"}, {"direction", "to_backend"}}},
      {&Stats::udp_bytes_to_clients,
       kBytes,
       kBytesHelp,
       {{"protocol", "UDP"}, {"direction", "to_client"}}},
      {&Stats::udp_begun,
       "pointsman_forwarder_udp_flows_total",
       "UDP flows (a client's address and port to a Service port) that began.",
       {}},
      {&Stats::udp_retries,
       "pointsman_forwarder_udp_retries_total",
       "Datagrams sent to another backend after an ICMP error.",
       {}},
      {&Stats::datagrams_to_backends, kDatagrams, kDatagramsHelp, {{"direction", "to_backend"}}},
      {&Stats::datagrams_to_clients, kDatagrams, kDatagramsHelp, {{"direction", "to_client"}}},
      {&Stats::datagrams_dropped,
       "pointsman_forwarder_datagrams_dropped_total",
       "Datagrams that could not be sent on.",
       {}},
  };
  return metrics;
}

ForwarderMetrics::ForwarderMetrics(prometheus::Registry& registry, std::string directory)
    : registry_(registry), directory_(std::move(directory)), before_(ReadForwarders(directory_)) {}

prometheus::Counter& ForwarderMetrics::Of(const Metric& metric) {
  return prometheus::BuildCounter()
      .Name(metric.name)
      .Help(metric.help)
      .Register(registry_)
      .Add(metric.labels);
}

void ForwarderMetrics::Add(const Stats& now, const Stats& before) {
  for (const Metric& metric : Metrics())
    Of(metric).Increment(static_cast<double>(now.*metric.number - before.*metric.number));
}

void ForwarderMetrics::Read() {
  const std::lock_guard lock(mutex_);
  std::map<std::string, Stats> counted = ReadForwarders(directory_);
  seen_ = seen_ || !counted.empty();
  if (!seen_) return;
  Stats sum;
  for (const auto& [path, stats] : counted) {
    Add(stats, before_[path]);
    sum.tcp_connections += stats.tcp_connections;
    sum.udp_flows += stats.udp_flows;
    sum.connection_limit += stats.connection_limit;
  }
  // One that did not answer this time is there again the next.
  for (auto& [path, stats] : counted)
    before_[path] = stats;
  const auto gauge = [this](const char* name, const char* help, uint64_t value) {
    prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add({}).Set(
        static_cast<double>(value));
  };
  gauge("pointsman_forwarder_tcp_connections", "Clients' TCP connections that are open.",
        sum.tcp_connections);
  gauge("pointsman_forwarder_tcp_connection_limit", "How many there can be.", sum.connection_limit);
  gauge("pointsman_forwarder_udp_flows", "UDP flows that have not ended.", sum.udp_flows);
}

}  // namespace pointsman::agent
