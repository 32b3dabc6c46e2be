// Frontends: the address and port pairs under which a Service port answers on this node. In ipvs
// mode each is one virtual server.
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
  kNodePort,      // for everyone, or with externalTrafficPolicy: Local for those outside
  kNodePortNear,  // with that policy: for this node and its pods
};
constexpr bool IsNodePort(FrontendSource source) {
  return source >= FrontendSource::kNodePort;
}

uint8_t IpProtocol(kube::Protocol protocol);

// Calls `each` for every frontend of `entry`. A node port is one or two of them, however many
// addresses the node has (node_ports.h).
void ForEachFrontend(const ServicePortEntry& entry,
                     const std::function<void(const FrontendKey&, FrontendSource)>& each);

// The backends that traffic to this frontend may go to.
const BackendChoice& ChoiceOf(const ServicePortEntry& entry, FrontendSource source);

// With externalTrafficPolicy: Local, the node itself and its pods reach an external address through
// all endpoints (kube-proxy does so too; kubernetes#75262, #93456): the frontend that has these
// instead. None: they use what the others use. Which it is does not depend on endpoints, unless
// internalTrafficPolicy is Local too and there is no node port.
std::optional<FrontendKey> NearFrontend(const ServicePortEntry& entry, FrontendSource source);

}  // namespace pointsman::agent::ipvs
