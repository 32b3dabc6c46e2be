// Connected routes: where this node finds other machines on one of its links, without a gateway.
#pragma once

#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

// The destinations of table main's unicast routes that have no gateway, one family, sorted, each
// once; never the default route. `socket` is a NETLINK_ROUTE socket. Throws std::system_error.
std::vector<net::IpPrefix> ConnectedPrefixes(Socket& socket, net::Family family);

}  // namespace pointsman::agent::netlink
