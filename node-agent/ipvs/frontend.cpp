#include "node-agent/ipvs/frontend.h"

#include <netinet/in.h>

#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/model/ip_protocol.h"

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

FrontendClaim MakeClaim(FrontendSource source, const net::IpAddress& address, uint16_t port,
                        uint8_t protocol) {
  FrontendClaim claim{{address, port, protocol}, source, address};
  switch (source) {
    case FrontendSource::kLoadBalancer:
    case FrontendSource::kExternalIp:
      claim.key.ip = MappedAddress(address);
      break;
    case FrontendSource::kLoadBalancerNear:
    case FrontendSource::kExternalIpNear:
      claim.key.ip = NearMappedAddress(address);
      break;
    default:
      break;
  }
  return claim;
}

std::optional<FrontendKey> SpareKey(const FrontendClaim& claim) {
  FrontendKey key = claim.key;
  switch (claim.source) {
    case FrontendSource::kLoadBalancer:
    case FrontendSource::kExternalIp:
      key.ip = SpareMappedAddress(claim.address);
      return key;
    case FrontendSource::kLoadBalancerNear:
    case FrontendSource::kExternalIpNear:
      key.ip = NearSpareMappedAddress(claim.address);
      return key;
    default:
      return std::nullopt;
  }
}

FrontendKey KeyOf(const netlink::IpvsServer& server) {
  return {server.address, server.port, server.protocol};
}

netlink::IpvsServer ToServer(const FrontendKey& key) {
  netlink::IpvsServer server;
  server.address = key.ip;
  server.port = key.port;
  server.protocol = key.protocol;
  return server;
}

void ForEachFrontend(const ServicePortEntry& entry,
                     const std::function<void(const FrontendClaim&)>& each) {
  const uint8_t protocol = IpProtocol(entry.id.protocol);
  auto external = [&](const net::IpAddress& ip, FrontendSource source, FrontendSource near) {
    each(MakeClaim(source, ip, entry.port, protocol));
    if (entry.external_local) each(MakeClaim(near, ip, entry.port, protocol));
  };
  auto node_port = [&](const net::IpAddress& ip, FrontendSource source) {
    each(MakeClaim(source, ip, entry.node_port, protocol));
  };

  if (!entry.cluster_ip.IsUnspecified()) {
    each(MakeClaim(FrontendSource::kClusterIp, entry.cluster_ip, entry.port, protocol));
  }
  for (const net::IpAddress& ip : entry.load_balancer_ips)
    external(ip, FrontendSource::kLoadBalancer, FrontendSource::kLoadBalancerNear);
  for (const net::IpAddress& ip : entry.external_ips)
    external(ip, FrontendSource::kExternalIp, FrontendSource::kExternalIpNear);
  if (entry.node_port == 0) return;
  node_port(NodePortAddress(entry.id.family), FrontendSource::kNodePort);
  if (entry.external_local)
    node_port(NearNodePortAddress(entry.id.family), FrontendSource::kNodePortNear);
}

const BackendChoice& ChoiceOf(const ServicePortEntry& entry, FrontendSource source) {
  if (source == FrontendSource::kClusterIp) return entry.internal;
  return IsNear(source) ? entry.external_from_node : entry.external;
}

}  // namespace pointsman::agent::ipvs
