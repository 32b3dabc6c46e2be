#include "node-agent/agent/health_checks.h"

#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

namespace pointsman::agent {

HealthChecks::HealthChecks(ProxyHealth& health, kube::EventRecorder& events, const Watches& watches,
                           const std::string& node_name)
    : server_([&health] { return health.Livez().status == 200; },
              [&events, &watches, node_name](const ServiceHealth::Service& service,
                                             const std::string& message) {
                spdlog::error("Service {}/{}: {}", service.ns, service.name, message);
                events.Emit(watches.ReferenceTo("Service", service.ns, service.name),
                            kube::EventType::kWarning, "FailedToStartServiceHealthcheck",
                            node_name + ": " + message);
              }) {}

void HealthChecks::Serve(bool serves, const NodeNetwork& node) {
  if (!std::exchange(changed_, false) && serves == serves_) return;
  serves_ = serves;
  server_.Set(serves ? ports_.Services() : ServiceHealth::Services{},
              node.every_address ? std::vector<net::IpAddress>{} : node.node_port_addresses);
}

}  // namespace pointsman::agent
