// Routing rules, as `ip rule` shows them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

struct RoutingRule {
  net::Family family = net::Family::kIPv4;
  uint32_t priority = 0;
  uint32_t table = 0;
  std::string input_interface;   // "iif"; "lo": what this node itself sends
  std::string output_interface;  // "oif"
  bool l3mdev = false;           // the table of the VRF that a packet belongs to
};

// Calls `each` with the rules of both families; `restart` before it does so from the beginning
// (Socket::Dump). `socket` is a NETLINK_ROUTE socket. A kernel without policy routing has none.
// Throws std::system_error.
void ForEachRoutingRule(Socket& socket, const std::function<void()>& restart,
                        const std::function<void(const RoutingRule&)>& each);

}  // namespace pointsman::agent::netlink
