#include "node-agent/ipvs/frontend.h"

#include <netinet/in.h>

#include "node-agent/ipvs/node_ports.h"

namespace pointsman::agent::ipvs {

std::string FrontendKey::ToString() const {
  std::string text = ip.is_v4() ? ip.ToString() : "[" + ip.ToString() + "]";
  text += ":" + std::to_string(port) + "/";
  switch (protocol) {
    case IPPROTO_TCP:
      return text + "TCP";
    case IPPROTO_UDP:
      return text + "UDP";
    case IPPROTO_SCTP:
      return text + "SCTP";
    default:
      return text + std::to_string(protocol);
  }
}

size_t FrontendKeyHash::operator()(const FrontendKey& key) const noexcept {
  return std::hash<net::IpAddress>()(key.ip) * 1099511628211ULL ^
         (static_cast<size_t>(key.port) << 8 | key.protocol) * 0x9e3779b97f4a7c15ULL;
}

uint8_t IpProtocol(kube::Protocol protocol) {
  switch (protocol) {
    case kube::Protocol::kUdp:
      return IPPROTO_UDP;
    case kube::Protocol::kSctp:
      return IPPROTO_SCTP;
    case kube::Protocol::kTcp:
      break;
  }
  return IPPROTO_TCP;
}

void ForEachFrontend(const ServicePortEntry& entry, const NodeNetwork& node,
                     const std::function<void(const FrontendKey&, FrontendSource)>& each) {
  const uint8_t protocol = IpProtocol(entry.id.protocol);
  if (!entry.cluster_ip.IsUnspecified())
    each({entry.cluster_ip, entry.port, protocol}, FrontendSource::kClusterIp);
  for (const net::IpAddress& ip : entry.load_balancer_ips)
    each({ip, entry.port, protocol}, FrontendSource::kLoadBalancer);
  for (const net::IpAddress& ip : entry.external_ips)
    each({ip, entry.port, protocol}, FrontendSource::kExternalIp);
  ForEachNodePortFrontend(entry, node,
                          [&](const FrontendKey& key) { each(key, FrontendSource::kNodePort); });
}

const BackendChoice& ChoiceOf(const ServicePortEntry& entry, FrontendSource source) {
  return source == FrontendSource::kClusterIp ? entry.internal : entry.external;
}

}  // namespace pointsman::agent::ipvs
