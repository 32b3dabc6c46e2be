#include "node-agent/userspace/forwarder_metrics.h"

#include <spdlog/spdlog.h>

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
      {&Stats::ended_for_room,
       "pointsman_forwarder_tcp_connections_evicted_total",
       "Clients' TCP connections that were reset to make room for others'.",
       {}},
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
    : registry_(registry), directory_(std::move(directory)) {
  for (std::string& path : ForwarderSockets(directory_))
    there_before_.insert(std::move(path));
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
  Read();
}

ForwarderMetrics::~ForwarderMetrics() = default;

void ForwarderMetrics::Read(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  // Not one that is under way: it may have asked before what is to be seen happened.
  const uint64_t wanted = asked_ = begun_ + 1;
  changed_.notify_all();
  changed_.wait_for(lock, patience, [&] { return done_ >= wanted; });
}

void ForwarderMetrics::Run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return asked_ > begun_; })) {
    ++begun_;
    lock.unlock();
    try {
      Take(ReadForwarders(directory_, stop));
    } catch (const std::exception& error) {
      if (log_.Happened())
        spdlog::error("forwarders' statistics could not be read: {}", error.what());
    }
    lock.lock();
    done_ = begun_;
    changed_.notify_all();
  }
}

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

void ForwarderMetrics::Take(const ForwarderStats& read) {
  for (const std::string& problem : read.problems) {
    if (log_.Happened()) spdlog::warn("{}", problem);
  }
  seen_ = seen_ || !read.counted.empty() || !read.problems.empty();
  if (!seen_) return;
  Stats sum;
  for (const auto& [path, stats] : read.counted) {
    // What it had counted before this object was made is left out.
    if (there_before_.erase(path) > 0) before_[path] = stats;
    Add(stats, before_[path]);
    // One that does not answer the next time is there again later.
    before_[path] = stats;
    sum.tcp_connections += stats.tcp_connections;
    sum.udp_flows += stats.udp_flows;
    sum.connection_limit += stats.connection_limit;
  }
  const auto gauge = [this](const char* name, const char* help, uint64_t value) {
    prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add({}).Set(
        static_cast<double>(value));
  };
  gauge("pointsman_forwarder_tcp_connections", "Clients' TCP connections that are open.",
        sum.tcp_connections);
  gauge("pointsman_forwarder_tcp_connection_limit", "How many there can be.", sum.connection_limit);
  gauge("pointsman_forwarder_udp_flows", "UDP flows that have not ended.", sum.udp_flows);
  gauge(
      "pointsman_forwarder_silent",
      "Forwarders whose statistics could not be read the last time; they are missing in the sums.",
      read.problems.size());
  gauge("pointsman_forwarder_last_read_timestamp_seconds",
        "When the forwarders' statistics were last read.",
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(
                                  std::chrono::system_clock::now().time_since_epoch())
                                  .count()));
}

}  // namespace pointsman::agent
