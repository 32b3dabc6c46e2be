// The addresses of the node itself, as ipvs mode must tell them from the VIPs that it brings there.
#pragma once

#include <optional>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::ipvs {

class HostAddresses {
 public:
  HostAddresses() = default;
  explicit HostAddresses(std::vector<net::IpAddress> addresses);

  bool Contains(const net::IpAddress& ip) const;

 private:
  std::vector<net::IpAddress> addresses_;  // sorted
};

// Those of all interfaces but `device_index`, ours. Throws std::system_error.
HostAddresses ReadHostAddresses(netlink::Socket& route, int device_index);

// The address that this node's connections to `ip` have as their source; nullopt: there is no
// route. Nothing is sent.
std::optional<net::IpAddress> SourceTo(const net::IpAddress& ip);
// The IPv4 one to elsewhere; without a route there, one of the node's addresses. nullopt: it has
// none but `device_index`'s and of narrower scope. Throws std::system_error.
std::optional<net::IpAddress> UsualSource(netlink::Socket& route, int device_index);

}  // namespace pointsman::agent::ipvs
