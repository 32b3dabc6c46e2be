// The ipsets of ipvs mode. The iptables rules that use them are static (rules.h); what changes with
// the Services are the elements.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>

#include "node-agent/ipvs/frontend.h"
#include "node-agent/netlink/ipset.h"

namespace pointsman::agent::ipvs {

enum class SetId : uint8_t {
  kOwned,     // every virtual server of ours: the record of which are
  kVip,       // the addresses on our dummy device: nothing but Service ports may answer on them
  kCluster,   // virtual servers that are open: of cluster IPs …
  kInternal,  // … on addresses of our own (internal_addresses.h)
  kClosed,    // cluster IPs without endpoints
  kDrop,      // a Local policy without a local backend
  kHairpin,   // a backend that may be on this node, its port, itself
  // Load balancer and external IPs and their ports …
  kMapped,       // … sent to MappedAddress
  kMappedSpare,  // … or to SpareMappedAddress: all are in one of the two
  kMarked,       // … whose traffic is all masqueraded; cluster IPs too
  kNear,         // … for this node and its pods: to NearMappedAddress
  kNearSpare,    // … or to NearSpareMappedAddress
  kGuarded,      // … with loadBalancerSourceRanges
  kSources,      // … and these may
  // Node ports, whatever the address …
  kNodePortExternal,  // … to be masqueraded and sent to NodePortAddress
  kNodePortLocal,     // … to be sent there as they are
  kNodePortNear,      // … for this node and its pods: to NearNodePortAddress
  kNodePortReject,    // … without an endpoint
  kNodePortDrop,      // … with a Local policy and no local endpoint
  kNodeAddress,       // the addresses that answer node ports, when not all do
  kHealth,            // health check node ports
};
inline constexpr std::array kAllSets{
    SetId::kOwned,         SetId::kVip,          SetId::kCluster,
    SetId::kInternal,      SetId::kClosed,       SetId::kDrop,
    SetId::kHairpin,       SetId::kMapped,       SetId::kMappedSpare,
    SetId::kMarked,        SetId::kNear,         SetId::kNearSpare,
    SetId::kGuarded,       SetId::kSources,      SetId::kNodePortExternal,
    SetId::kNodePortLocal, SetId::kNodePortNear, SetId::kNodePortReject,
    SetId::kNodePortDrop,  SetId::kNodeAddress,  SetId::kHealth};

std::string SetName(SetId id, net::Family family);  // "PM-IPVS-CLUSTER-4"
netlink::SetType SetTypeOf(SetId id);
// Being in one of these sends new connections to an address of our own.
constexpr bool SendsOn(SetId id) {
  switch (id) {
    case SetId::kMapped:
    case SetId::kMappedSpare:
    case SetId::kNear:
    case SetId::kNearSpare:
    case SetId::kNodePortExternal:
    case SetId::kNodePortLocal:
    case SetId::kNodePortNear:
      return true;
    default:
      return false;
  }
}
// The set whose elements go to another internal address instead; `id` itself when there is none.
constexpr SetId OtherPlace(SetId id) {
  switch (id) {
    case SetId::kMapped:
      return SetId::kMappedSpare;
    case SetId::kMappedSpare:
      return SetId::kMapped;
    case SetId::kNear:
      return SetId::kNearSpare;
    case SetId::kNearSpare:
      return SetId::kNear;
    default:
      return id;
  }
}
// Being in one of these lets new connections in.
constexpr bool IsOpenSet(SetId id) {
  return id == SetId::kCluster || id == SetId::kInternal || SendsOn(id);
}

struct SetEntry {
  SetId set = SetId::kOwned;
  netlink::SetElement element;
  auto operator<=>(const SetEntry&) const = default;
};
struct SetEntryHash {
  size_t operator()(const SetEntry& entry) const noexcept;
};
// Of an element that names an address, a port and a protocol.
FrontendKey KeyOf(const SetEntry& entry);

// The elements that belong to one frontend alone; those of kVip, kHairpin and kHealth are shared by
// several (desired_state.h), those of kNodeAddress are the node's.
void ForEachOwnElement(const FrontendClaim& frontend, const ServicePortEntry& entry,
                       const std::function<void(const SetEntry&)>& each);

SetEntry OwnedElement(const FrontendKey& key);
SetEntry VipElement(const net::IpAddress& ip);
SetEntry NodeAddressElement(const net::IpAddress& ip);
// A set that looks at ports alone and knows all protocols does not exist: a network and a port,
// where the network is everything, of which a hash set takes only halves.
std::array<SetEntry, 2> PortElements(SetId id, net::Family family, uint16_t port, uint8_t protocol);
SetEntry HairpinElement(const net::IpAddress& ip, uint16_t port, uint8_t protocol);

}  // namespace pointsman::agent::ipvs
