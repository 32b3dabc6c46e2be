#include "node-agent/ipvs/node_ports.h"

namespace pointsman::agent::ipvs {

void ForEachNodePortFrontend(const ServicePortEntry& entry, const NodeNetwork& node,
                             const std::function<void(const FrontendKey&)>& each) {
  if (entry.node_port == 0) return;
  for (const net::IpAddress& ip : node.node_port_addresses) {
    if (ip.family() != entry.id.family || ip.IsLoopback()) continue;
    each({ip, entry.node_port, IpProtocol(entry.id.protocol)});
  }
}

}  // namespace pointsman::agent::ipvs
