#include "node-agent/agent/netlink_metrics.h"

#include <cstddef>
#include <string>

#include "kube/serve/cumulative.h"
#include "node-agent/netlink/counters.h"

namespace pointsman::agent {
namespace {

prometheus::Family<prometheus::Counter>& MakeFamily(prometheus::Registry& registry,
                                                    const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

}  // namespace

NetlinkMetrics::NetlinkMetrics(prometheus::Registry& registry)
    : requests_(MakeFamily(registry, "pointsman_agent_netlink_requests_total",
                           "Netlink messages sent to the kernel, by subsystem.")),
      errors_(MakeFamily(registry, "pointsman_agent_netlink_errors_total",
                         "Such messages that the kernel answered by an error, by its kind.")),
      repeated_dumps_(MakeFamily(registry, "pointsman_agent_netlink_repeated_dumps_total",
                                 "Dumps repeated because the table changed meanwhile.")),
      torn_dumps_(MakeFamily(registry, "pointsman_agent_netlink_torn_dumps_total",
                             "Dumps taken although the table changed in each repetition.")),
      overruns_(MakeFamily(registry, "pointsman_agent_netlink_overruns_total",
                           "Reads that found answers of the kernel lost (ENOBUFS).")),
      timeouts_(MakeFamily(registry, "pointsman_agent_netlink_timeouts_total",
                           "Requests that the kernel did not answer in time.")) {}

void NetlinkMetrics::Read() {
  const netlink::Counters& counters = netlink::ProcessCounters();
  for (size_t i = 0; i < netlink::kSubsystems; ++i) {
    const std::string subsystem(ToString(static_cast<netlink::Subsystem>(i)));
    const prometheus::Labels labels{{"subsystem", subsystem}};
    kube::RaiseTo(requests_.Add(labels), counters.requests[i]);
    kube::RaiseTo(repeated_dumps_.Add(labels), counters.repeated_dumps[i]);
    kube::RaiseTo(torn_dumps_.Add(labels), counters.torn_dumps[i]);
    kube::RaiseTo(overruns_.Add(labels), counters.overruns[i]);
    kube::RaiseTo(timeouts_.Add(labels), counters.timeouts[i]);
    for (size_t k = 0; k < netlink::kErrorClasses; ++k) {
      const std::string error(ToString(static_cast<netlink::ErrorClass>(k)));
      kube::RaiseTo(errors_.Add({{"subsystem", subsystem}, {"error", error}}),
                    counters.refused[i][k]);
    }
  }
}

}  // namespace pointsman::agent
