#include "node-agent/ipvs/frontend.h"

#include <netinet/in.h>

#include "node-agent/ipvs/internal_addresses.h"

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

void ForEachFrontend(const ServicePortEntry& entry, bool any_unbound,
                     const std::function<void(const FrontendKey&, FrontendSource)>& each) {
  const uint8_t protocol = IpProtocol(entry.id.protocol);
  if (!entry.cluster_ip.IsUnspecified())
    each({entry.cluster_ip, entry.port, protocol}, FrontendSource::kClusterIp);
  for (const net::IpAddress& ip : entry.load_balancer_ips)
    each({ip, entry.port, protocol}, FrontendSource::kLoadBalancer);
  for (const net::IpAddress& ip : entry.external_ips)
    each({ip, entry.port, protocol}, FrontendSource::kExternalIp);
  const net::Family family = entry.id.family;
  if (entry.node_port == 0) {
    if (any_unbound)
      each({ExternalAddress(entry.cluster_ip), entry.port, protocol}, FrontendSource::kExternal);
    if (entry.external_local) {
      each({NearExternalAddress(entry.cluster_ip), entry.port, protocol},
           FrontendSource::kExternalNear);
    }
    return;
  }
  each({NodePortAddress(family), entry.node_port, protocol}, FrontendSource::kNodePort);
  if (entry.external_local)
    each({NearNodePortAddress(family), entry.node_port, protocol}, FrontendSource::kNodePortNear);
}

const BackendChoice& ChoiceOf(const ServicePortEntry& entry, FrontendSource source) {
  switch (source) {
    case FrontendSource::kClusterIp:
      return entry.internal;
    case FrontendSource::kNodePortNear:
    case FrontendSource::kExternalNear:
      return entry.external_from_node;
    case FrontendSource::kLoadBalancer:
    case FrontendSource::kExternalIp:
    case FrontendSource::kNodePort:
    case FrontendSource::kExternal:
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
  return FrontendKey{NearExternalAddress(entry.cluster_ip), entry.port, protocol};
}

FrontendKey UnboundTarget(const ServicePortEntry& entry) {
  const uint8_t protocol = IpProtocol(entry.id.protocol);
  if (entry.node_port != 0) return {NodePortAddress(entry.id.family), entry.node_port, protocol};
  return {ExternalAddress(entry.cluster_ip), entry.port, protocol};
}

}  // namespace pointsman::agent::ipvs
