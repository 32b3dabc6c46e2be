// Which source the node's own connections have.
#pragma once

#include <optional>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

// The address that this node's connections to `ip` have as their source; nullopt: there is no
// route. Nothing is sent.
std::optional<net::IpAddress> SourceTo(const net::IpAddress& ip);

// The IPv4 one to elsewhere; without a route there, one of the node's addresses. nullopt: it has
// none but those of the interfaces `not_of` (indexes) and of narrower scope. Throws
// std::system_error.
std::optional<net::IpAddress> UsualSource(Socket& route, const std::vector<int>& not_of);

}  // namespace pointsman::agent::netlink
