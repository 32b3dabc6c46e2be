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
// Load balancer and external IPs: they may be another machine's, which could not be reached any
// more if they were bound here (kubernetes#114815, #66966). Each has an internal address, made by
// one rule for all of them: the target NETMAP replaces the upper bits. Addresses that differ in
// these bits alone would share it, and a tenant who may have one of them would take another's
// Service from it: the second has the spare one, which a second rule makes.
#pragma once

#include "kube/net/ip_address.h"

namespace pointsman::agent::ipvs {

// 169.254.112.1 and fd70:6f69:6e74:736d::1.
const net::IpAddress& NodePortAddress(net::Family family);
// The same plus one: for this node and its pods, where externalTrafficPolicy is Local.
const net::IpAddress& NearNodePortAddress(net::Family family);

// 244.0.0.0/6 and fd70:6f6d::/32, to which NETMAP maps; and for this node and its pods, where
// externalTrafficPolicy is Local: 248.0.0.0/6 and fd70:6f6e::/32.
const net::IpPrefix& MapPrefix(net::Family family);
const net::IpPrefix& NearMapPrefix(net::Family family);
// The spare ones: 252.0.0.0/8 and fd70:6f70::/32, 253.0.0.0/8 and fd70:6f71::/32. (The first byte
// 255 has the broadcast address.)
const net::IpPrefix& SpareMapPrefix(net::Family family);
const net::IpPrefix& NearSpareMapPrefix(net::Family family);
// What NETMAP makes of `external`: the prefix, and the lower bits of `external`. Addresses that
// differ in the upper 6 (IPv6: 32) bits alone share one, and their spare one too.
net::IpAddress MappedAddress(const net::IpAddress& external);
net::IpAddress NearMappedAddress(const net::IpAddress& external);
net::IpAddress SpareMappedAddress(const net::IpAddress& external);
net::IpAddress NearSpareMappedAddress(const net::IpAddress& external);

}  // namespace pointsman::agent::ipvs
