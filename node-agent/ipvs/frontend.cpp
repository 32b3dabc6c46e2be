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

void ForEachFrontend(const ServicePortEntry& entry,
                     const std::function<void(const FrontendKey&, FrontendSource)>& each) {
  const uint8_t protocol = IpProtocol(entry.id.protocol);
  if (!entry.cluster_ip.IsUnspecified())
    each({entry.cluster_ip, entry.port, protocol}, FrontendSource::kClusterIp);
  for (const net::IpAddress& ip : entry.load_balancer_ips)
    each({ip, entry.port, protocol}, FrontendSource::kLoadBalancer);
  for (const net::IpAddress& ip : entry.external_ips)
    each({ip, entry.port, protocol}, FrontendSource::kExternalIp);
  if (entry.node_port == 0) return;
  const net::Family family = entry.id.family;
  each({NodePortAddress(family), entry.node_port, protocol}, FrontendSource::kNodePort);
  if (entry.external_local)
    each({NearNodePortAddress(family), entry.node_port, protocol}, FrontendSource::kNodePortNear);
}

const BackendChoice& ChoiceOf(const ServicePortEntry& entry, FrontendSource source) {
  switch (source) {
    case FrontendSource::kClusterIp:
      return entry.internal;
    case FrontendSource::kNodePortNear:
      return entry.external_from_node;
    case FrontendSource::kLoadBalancer:
    case FrontendSource::kExternalIp:
    case FrontendSource::kNodePort:
      break;
  }
  return entry.external;
}

std::optional<FrontendKey> NearFrontend(const ServicePortEntry& entry, FrontendSource source) {
  if (!entry.external_local) return std::nullopt;
  if (source != FrontendSource::kLoadBalancer && source != FrontendSource::kExternalIp)
    return std::nullopt;
  const uint8_t protocol = IpProtocol(entry.id.protocol);
  if (entry.node_port != 0)
    return FrontendKey{NearNodePortAddress(entry.id.family), entry.node_port, protocol};
  if (entry.internal == entry.external_from_node && !entry.cluster_ip.IsUnspecified())
    return FrontendKey{entry.cluster_ip, entry.port, protocol};
  return std::nullopt;
}

}  // namespace pointsman::agent::ipvs
