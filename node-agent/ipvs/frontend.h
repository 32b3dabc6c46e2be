// Frontends: the virtual servers that a Service port has, and the addresses that clients use to
// reach them.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "kube/net/ip_address.h"
#include "node-agent/model/service_model.h"
#include "node-agent/netlink/ipvs.h"

namespace pointsman::agent::ipvs {

struct FrontendKey {
  net::IpAddress ip;
  uint16_t port = 0;
  uint8_t protocol = 0;  // IPPROTO_…
  auto operator<=>(const FrontendKey&) const = default;
  std::string ToString() const;  // "10.96.0.1:80/TCP", "[fd00::1]:80/UDP"
};

struct FrontendKeyHash {
  size_t operator()(const FrontendKey& key) const noexcept;
};

// Not of a server by packet mark.
FrontendKey KeyOf(const netlink::IpvsServer& server);
// With nothing but the key.
netlink::IpvsServer ToServer(const FrontendKey& key);

// Where the address comes from. When two want the same key, the lower value goes first.
enum class FrontendSource : uint8_t {
  kClusterIp,
  // On addresses of our own (internal_addresses.h), reached by NAT alone. "Near": with
  // externalTrafficPolicy: Local, for this node and its pods, who reach external addresses through
  // all endpoints (kube-proxy does so too; kubernetes#75262, #93456).
  kLoadBalancer,
  kLoadBalancerNear,
  kExternalIp,
  kExternalIpNear,
  kNodePort,
  kNodePortNear,
};
constexpr bool IsNodePort(FrontendSource source) {
  return source == FrontendSource::kNodePort || source == FrontendSource::kNodePortNear;
}
constexpr bool IsNear(FrontendSource source) {
  return source == FrontendSource::kLoadBalancerNear || source == FrontendSource::kExternalIpNear ||
         source == FrontendSource::kNodePortNear;
}
// A load balancer or external IP, as those outside reach it.
constexpr bool IsExternalAddress(FrontendSource source) {
  return source == FrontendSource::kLoadBalancer || source == FrontendSource::kExternalIp;
}

struct FrontendClaim {
  FrontendKey key;  // of the virtual server
  FrontendSource source = FrontendSource::kClusterIp;
  // What clients ask for: differs from key.ip for load balancer and external IPs. The port is the
  // same. (Node ports are asked for at all addresses of the node; here it is key.ip.)
  net::IpAddress address;
};

// Of the frontend that clients reach at `address`, for node ports an internal address.
FrontendClaim MakeClaim(FrontendSource source, const net::IpAddress& address, uint16_t port,
                        uint8_t protocol);

// Where its virtual server is when another address has `claim.key` already: for load balancer and
// external IPs (internal_addresses.h).
std::optional<FrontendKey> SpareKey(const FrontendClaim& claim);

// Calls `each` for every frontend of `entry`. A node port is one or two of them, however many
// addresses the node has.
void ForEachFrontend(const ServicePortEntry& entry,
                     const std::function<void(const FrontendClaim&)>& each);

// The backends that traffic to this frontend may go to.
const BackendChoice& ChoiceOf(const ServicePortEntry& entry, FrontendSource source);

}  // namespace pointsman::agent::ipvs
