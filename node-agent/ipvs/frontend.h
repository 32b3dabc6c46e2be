// Frontends: the address and port pairs under which a Service port answers on this node. In ipvs
// mode each is one virtual server, but for external addresses that are not bound: those are sent to
// another frontend by DNAT.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "kube/net/ip_address.h"
#include "node-agent/model/service_model.h"

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

// Where the address comes from. When two claim the same key, the lower value wins.
enum class FrontendSource : uint8_t {
  kClusterIp,
  kLoadBalancer,
  kExternalIp,
  // On addresses of our own, reached by DNAT alone:
  kNodePort,      // for everyone, or with externalTrafficPolicy: Local for those outside
  kNodePortNear,  // with that policy: for this node and its pods
  // The same two for the external addresses of a Service port without node port.
  kExternal,
  kExternalNear,
};
constexpr bool IsNodePort(FrontendSource source) {
  return source == FrontendSource::kNodePort || source == FrontendSource::kNodePortNear;
}
constexpr bool IsInternal(FrontendSource source) {
  return source >= FrontendSource::kNodePort;
}

uint8_t IpProtocol(kube::Protocol protocol);

// Calls `each` for every frontend of `entry`. A node port is one or two of them, however many
// addresses the node has (internal_addresses.h). `any_unbound`: one of its load balancer or
// external IPs is not bound.
void ForEachFrontend(const ServicePortEntry& entry, bool any_unbound,
                     const std::function<void(const FrontendKey&, FrontendSource)>& each);

// The backends that traffic to this frontend may go to.
const BackendChoice& ChoiceOf(const ServicePortEntry& entry, FrontendSource source);

// With externalTrafficPolicy: Local, the node itself and its pods reach an external address through
// all endpoints (kube-proxy does so too; kubernetes#75262, #93456): the frontend that has these
// instead. None: they use what the others use. Does not depend on endpoints.
std::optional<FrontendKey> NearFrontend(const ServicePortEntry& entry, FrontendSource source);
// The frontend that an external address which is not bound is sent to. Does not depend on endpoints
// and is the same for all of the entry's addresses.
FrontendKey UnboundTarget(const ServicePortEntry& entry);

}  // namespace pointsman::agent::ipvs
