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
  std::string alias;  // a text that whoever made it may leave (ip link set NAME alias TEXT)
};

// `socket` is a NETLINK_ROUTE socket. All throw std::system_error that names the interface.
std::vector<Link> Links(Socket& socket);
std::optional<Link> FindLink(Socket& socket, const std::string& name);
// With `mtu` (0: the kernel's choice), and up unless `up` is false. EEXIST when the name is taken.
void CreateDummy(Socket& socket, const std::string& name, uint32_t mtu, bool up = true);
void SetLinkUp(Socket& socket, const std::string& name);
// By index, which nobody else's interface can have taken meanwhile. "" takes the alias away.
void SetLinkAlias(Socket& socket, int index, const std::string& alias);
// One that is down. EEXIST when the name is taken.
void RenameLink(Socket& socket, int index, const std::string& name);
// False: there was none.
bool DeleteLink(Socket& socket, const std::string& name);
bool DeleteLink(Socket& socket, int index);

}  // namespace pointsman::agent::netlink
