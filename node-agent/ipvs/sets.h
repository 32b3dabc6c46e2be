// The ipsets of ipvs mode. The iptables rules that use them are static (rules.h); what changes with
// the Services are the elements.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "node-agent/ipvs/frontend.h"
#include "node-agent/netlink/ipset.h"

namespace pointsman::agent::ipvs {

enum class SetId : uint8_t {
  kOwned,     // every frontend of ours: the record of which virtual servers are ours
  kVip,       // the addresses on our dummy device: nothing but Service ports may answer on them
  kCluster,   // frontends that are open: ClusterIP …
  kExternal,  // … external traffic that may go to any node (masqueraded)
  kLocal,     // … external traffic to this node's backends only (source address kept)
  kDrop,      // a Local policy without a local backend
  kGuarded,   // loadBalancerSourceRanges apply
  kSources,   // … and these may
  kHairpin,   // local backend, port, itself
  kNear,      // frontends that this node and its pods reach in another way: DNAT
  kUnbound,   // external frontends whose address is not bound: DNAT
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
    SetId::kOwned,         SetId::kVip,          SetId::kCluster,        SetId::kExternal,
    SetId::kLocal,         SetId::kDrop,         SetId::kGuarded,        SetId::kSources,
    SetId::kHairpin,       SetId::kNear,         SetId::kUnbound,        SetId::kNodePortExternal,
    SetId::kNodePortLocal, SetId::kNodePortNear, SetId::kNodePortReject, SetId::kNodePortDrop,
    SetId::kNodeAddress,   SetId::kHealth};

std::string SetName(SetId id, net::Family family);  // "PM-IPVS-CLUSTER-4"
netlink::SetType SetTypeOf(SetId id);
// Being in one of these lets new connections in.
constexpr bool IsOpenSet(SetId id) {
  switch (id) {
    case SetId::kCluster:
    case SetId::kExternal:
    case SetId::kLocal:
    case SetId::kNear:
    case SetId::kUnbound:
    case SetId::kNodePortExternal:
    case SetId::kNodePortLocal:
    case SetId::kNodePortNear:
      return true;
    default:
      return false;
  }
}

struct SetEntry {
  SetId set = SetId::kOwned;
  netlink::SetElement element;
  auto operator<=>(const SetEntry&) const = default;
};

// The elements that belong to one frontend alone; kVip, kHairpin and kHealth are shared and counted
// by the caller, kNodeAddress is the node's. `unbound`: it has no virtual server, and what its
// endpoints are is a matter of the frontend that it is sent to. `node_in_ranges`: one of the node's
// addresses is in the source ranges; then the node itself may connect, and what it sends to an
// address of its own has that address as its source.
void ForEachOwnElement(const FrontendKey& key, const ServicePortEntry& entry, FrontendSource source,
                       bool unbound, bool node_in_ranges,
                       const std::function<void(const SetEntry&)>& each);

SetEntry VipElement(const net::IpAddress& ip);
SetEntry NodeAddressElement(const net::IpAddress& ip);
// A set that looks at ports alone and knows all protocols does not exist: a network and a port,
// where the network is everything, of which a hash set takes only halves.
std::array<SetEntry, 2> PortElements(SetId id, net::Family family, uint16_t port, uint8_t protocol);
SetEntry HairpinElement(const net::IpAddress& ip, uint16_t port, uint8_t protocol);

}  // namespace pointsman::agent::ipvs
