// Node ports in ipvs mode. A virtual server for each address of the node would make their number
// grow with the node's addresses (kubernetes#79444). Instead static rules in table nat (rules.h)
// send node ports, their port kept, to an internal address that is bound as the VIPs are, and there
// is one virtual server a node port, whatever addresses come and go.
//
// Not for 127.0.0.0/8 and ::1: IPVS refuses to send a packet whose source is a loopback address out
// of the machine (net/netfilter/ipvs/ip_vs_xmit.c, crosses_local_route_boundary), and the source
// can be changed only behind IPVS; a connection would hang (kubernetes#67730, #96879). So these are
// refused at once.
#pragma once

#include "kube/net/ip_address.h"

namespace pointsman::agent::ipvs {

// 169.254.112.1 and fd70:6f69:6e74:736d::1: never leave the node.
const net::IpAddress& NodePortAddress(net::Family family);
// The same plus one: for this node and its pods, where externalTrafficPolicy is Local.
const net::IpAddress& NearNodePortAddress(net::Family family);

}  // namespace pointsman::agent::ipvs
