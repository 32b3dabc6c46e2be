// The health check node ports of Services (health/service_health.h), kept as the model asks.
#pragma once

#include <string>

#include "kube/events/event_recorder.h"
#include "node-agent/agent/watches.h"
#include "node-agent/health/health_check_ports.h"
#include "node-agent/health/proxy_health.h"
#include "node-agent/health/service_health.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// The sync thread calls it; the ports are served on a thread of its own.
class HealthChecks {
 public:
  // All outlive this. A port that cannot be served is an Event on its Service.
  HealthChecks(ProxyHealth& health, kube::EventRecorder& events, const Watches& watches,
               const std::string& node_name);

  // Each delta of the model, in order.
  void Apply(const ModelDelta& delta) {
    changed_ = ports_.Apply(delta) || delta.node_changed || changed_;
  }
  // `serves`: this node serves Services. Returns at once.
  void Serve(bool serves, const NodeNetwork& node);

 private:
  HealthCheckPorts ports_;
  bool changed_ = false;
  bool serves_ = false;
  ServiceHealth server_;
};

}  // namespace pointsman::agent
