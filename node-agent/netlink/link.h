// Network interfaces.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

struct Link {
  int index = 0;
  std::string name;
  std::string kind;  // "dummy", "veth", "bridge", …; empty for hardware
  bool up = false;   // IFF_UP
  bool arp = true;   // not IFF_NOARP
  bool loopback = false;
  uint32_t mtu = 0;
};

// `socket` is a NETLINK_ROUTE socket. All throw std::system_error that names the interface.
std::vector<Link> Links(Socket& socket);
std::optional<Link> FindLink(Socket& socket, const std::string& name);
// Made up, with `mtu` (0: the kernel's choice). EEXIST when the name is taken.
void CreateDummy(Socket& socket, const std::string& name, uint32_t mtu);
void SetLinkUp(Socket& socket, const std::string& name);
// False: there was none.
bool DeleteLink(Socket& socket, const std::string& name);

}  // namespace pointsman::agent::netlink
