#include "node-agent/traffic/service_places.h"

namespace pointsman::agent {

ServicePlaces::ServicePlaces(const ServiceModel& model)
    : node_addresses_(model.node.node_port_addresses.begin(),
                      model.node.node_port_addresses.end()) {
  for (const auto& [id, entry] : model.entries) {
    if (id.protocol != Protocol::kTcp) continue;
    if (!entry->cluster_ip.IsUnspecified()) addresses_[{entry->cluster_ip, entry->port}] = entry;
    for (const net::IpAddress& ip : entry->external_ips)
      addresses_[{ip, entry->port}] = entry;
    for (const net::IpAddress& ip : entry->load_balancer_ips)
      addresses_[{ip, entry->port}] = entry;
    if (entry->node_port != 0) node_ports_[Index(id.family)][entry->node_port] = entry;
  }
}

const ServicePortEntry* ServicePlaces::Find(const net::IpPort& place) const {
  if (const auto found = addresses_.find(place); found != addresses_.end())
    return found->second.get();
  const auto& node_ports = node_ports_[Index(place.ip.family())];
  const auto found = node_ports.find(place.port);
  return found != node_ports.end() && node_addresses_.contains(place.ip) ? found->second.get()
                                                                         : nullptr;
}

}  // namespace pointsman::agent
