#include "node-agent/agent/traffic_metrics.h"

#include "kube/serve/cumulative.h"
#include "node-agent/traffic/client_traffic.h"

namespace pointsman::agent {
namespace {

prometheus::Counter& TrafficCounter(prometheus::Registry& registry, const char* name,
                                    const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

TrafficMetrics::TrafficMetrics(prometheus::Registry& registry)
    : answered_(TrafficCounter(
          registry, "pointsman_agent_watched_connections_answered_total",
          "New connections of clients to Services that were answered, while a handover was "
          "watched.")),
      unanswered_(TrafficCounter(registry, "pointsman_agent_watched_connections_unanswered_total",
                                 "Such connections that were reset or not answered in time.")),
      lost_(TrafficCounter(registry, "pointsman_agent_watch_lost_packets_total",
                           "Packets of such connections for which there was no room.")),
      failures_(TrafficCounter(registry, "pointsman_agent_watch_failures_total",
                               "Times that clients' connections could not be watched.")) {}

void TrafficMetrics::Read() {
  const WatchedTraffic& traffic = ProcessWatchedTraffic();
  kube::RaiseTo(answered_, traffic.answered);
  kube::RaiseTo(unanswered_, traffic.unanswered);
  kube::RaiseTo(lost_, traffic.lost);
  kube::RaiseTo(failures_, traffic.failures);
}

}  // namespace pointsman::agent
