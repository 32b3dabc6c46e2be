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

// netlink::UsualSource, of the node itself. Throws std::system_error.
std::optional<net::IpAddress> UsualSource(netlink::Socket& route, int device_index);

}  // namespace pointsman::agent::ipvs
