// Routes of type "local": an address (a VIP) or a range of them is delivered on this node without
// being an address of an interface.
#pragma once

#include <cstdint>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

// rtm_protocol of the routes that Pointsman makes; `ip route` shows it as "proto 112".
inline constexpr uint8_t kRouteProtocol = 112;

// Both append to `batch`: a host route of type local, in table local, through `interface_index`.
// The kernel answers EEXIST, ESRCH (nothing to delete), ENETDOWN.
size_t AddLocalRoute(Batch& batch, const net::IpAddress& address, int interface_index);
size_t DeleteLocalRoute(Batch& batch, const net::IpAddress& address, int interface_index);
// Changes a route that AddLocalRoute made: this node's own new connections to `address` get
// `source` as theirs, and not `address` itself. `source` has to be an address of an interface.
size_t SetLocalRouteSource(Batch& batch, const net::IpAddress& address, int interface_index,
                           const net::IpAddress& source);
// The same for every address of a prefix.
size_t AddLocalRoute(Batch& batch, const net::IpPrefix& prefix, int interface_index);
size_t DeleteLocalRoute(Batch& batch, const net::IpPrefix& prefix, int interface_index);

// Host routes of type local through `interface_index` (0: any) that Pointsman made, one family.
// `socket` is a NETLINK_ROUTE socket. Throws std::system_error.
std::vector<net::IpAddress> LocalRoutes(Socket& socket, net::Family family, int interface_index);
// Those of more than one address.
std::vector<net::IpPrefix> LocalPrefixes(Socket& socket, net::Family family, int interface_index);

}  // namespace pointsman::agent::netlink
