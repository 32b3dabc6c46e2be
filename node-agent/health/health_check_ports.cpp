#include "node-agent/health/health_check_ports.h"

#include <algorithm>

namespace pointsman::agent {

bool HealthCheckPorts::Apply(const ModelDelta& delta) {
  bool changed = false;
  for (const EntryChange& change : delta.changes) {
    const uint16_t before = change.before ? change.before->health_check_node_port : 0;
    const uint16_t after = change.after ? change.after->health_check_node_port : 0;
    if (before != 0 && before != after) {
      const auto entries = ports_.find(before);
      if (entries != ports_.end()) {
        entries->second.erase(change.before->id);
        if (entries->second.empty()) ports_.erase(entries);
      }
      changed = true;
    }
    if (after == 0) continue;
    const auto [entry, fresh] = ports_[after].try_emplace(change.after->id, -1);
    changed |= entry->second != change.after->local_ready_endpoints;
    entry->second = change.after->local_ready_endpoints;
  }
  return changed;
}

ServiceHealth::Services HealthCheckPorts::Services() const {
  ServiceHealth::Services services;
  for (const auto& [port, entries] : ports_) {
    const ServicePortId& id = entries.begin()->first;
    ServiceHealth::Service& service = services[port];
    service = {id.ns, id.name, 0};
    for (const auto& [entry, local] : entries) {
      // Two Services cannot have one port; the families of one may have other numbers of endpoints.
      if (entry.ns == id.ns && entry.name == id.name)
        service.local_endpoints = std::max(service.local_endpoints, local);
    }
  }
  return services;
}

}  // namespace pointsman::agent
