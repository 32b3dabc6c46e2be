// Addresses of our own, which never leave the node: static rules in table nat (rules.h) send to
// them what comes to addresses that are not bound, and virtual servers are on them.
//
// Node ports: a virtual server for each address of the node would make their number grow with the
// node's addresses (kubernetes#79444). Instead node ports are sent, their port kept, to one
// internal address, whatever addresses come and go. Not from 127.0.0.0/8 and ::1: IPVS refuses to
// send a packet whose source is a loopback address out of the machine
// (net/netfilter/ipvs/ip_vs_xmit.c, crosses_local_route_boundary), and the source can be changed
// only behind IPVS; a connection would hang (kubernetes#67730, #96879). So these are refused at
// once.
//
// External addresses that may be another machine's: bound here, that machine could not be reached
// any more (kubernetes#114815, #66966). They are sent to the Service's node port, or, when it has
// none, to an address made from its cluster IP.
#pragma once

#include <array>

#include "kube/net/ip_address.h"

namespace pointsman::agent::ipvs {

// 169.254.112.1 and fd70:6f69:6e74:736d::1.
const net::IpAddress& NodePortAddress(net::Family family);
// The same plus one: for this node and its pods, where externalTrafficPolicy is Local.
const net::IpAddress& NearNodePortAddress(net::Family family);

// For a Service port without node port, in 240.128.0.0/10 or fd70:6f69:6e74:736e::/64. No two
// cluster IPs of a range that an API server takes (at most 20 bits) share one; between different
// ranges two may, in one case out of four million.
net::IpAddress ExternalAddress(const net::IpAddress& cluster_ip);
// The same in 240.192.0.0/10 or fd70:6f69:6e74:736f::/64: for this node and its pods, where
// externalTrafficPolicy is Local.
net::IpAddress NearExternalAddress(const net::IpAddress& cluster_ip);

// All of the above.
std::array<net::IpPrefix, 3> InternalPrefixes(net::Family family);

}  // namespace pointsman::agent::ipvs
