// How a connection tells the forwarder which Service it is for: DNAT gives it one of a range of
// addresses that are local on this node, and the address's low bits are the number of a slot of the
// forwarder's table. One listening socket a family and protocol serves every Service, no look-up in
// conntrack is needed, and datagrams of one client port to several Services stay apart.
//
// The addresses never leave the node: their route is of type local, and conntrack turns them back
// into the Service's own. IPv4: a part of 240.0.0.0/4 (RFC 1112, reserved, and unlike 127.0.0.0/8
// no martian when it comes in through an interface). IPv6: a unique local prefix (RFC 4193).
#pragma once

#include <cstdint>
#include <optional>

#include "kube/net/ip_address.h"
#include "kube/net/socket_address.h"

namespace pointsman::forwarder {

using net::FromSocketAddress;
using net::IpPort;

inline constexpr int kSlotBits = 18;
// Slot numbers are 1..kMaxSlot.
inline constexpr uint32_t kMaxSlot = (1U << kSlotBits) - 2;

// 240.112.0.0/14 or fd70:6f69:6e74:736d::/110.
net::IpPrefix SlotPrefix(net::Family family);
net::IpAddress SlotAddress(net::Family family, uint32_t slot);
// nullopt: not in the prefix.
std::optional<uint32_t> SlotOf(const net::IpAddress& address);

}  // namespace pointsman::forwarder
