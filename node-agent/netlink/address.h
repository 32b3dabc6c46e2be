// Interface addresses: reading, and being told of changes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

struct InterfaceAddress {
  net::IpAddress address;
  uint8_t prefix_length = 0;
  int interface_index = 0;
  std::string interface_name;
  uint8_t scope = 0;  // RT_SCOPE_UNIVERSE (0), _LINK, _HOST
};

// Every address of every interface, both families, in the kernel's order.
// `socket` is a NETLINK_ROUTE socket. Throws std::system_error.
std::vector<InterfaceAddress> InterfaceAddresses(Socket& socket);

// Appends to `batch`: takes one that was read off its interface. The kernel answers EADDRNOTAVAIL
// when it is gone already.
size_t DeleteAddress(Batch& batch, const InterfaceAddress& entry);

// Says when interface addresses have come or gone. Wait for fd() to become readable (poll, epoll),
// then call Drain.
class AddressMonitor {
 public:
  AddressMonitor();
  int fd() const { return socket_.fd(); }
  // Reads what is there without blocking. True: an address changed (or notices were lost, which
  // means the same: look again).
  bool Drain();

 private:
  Socket socket_;
};

}  // namespace pointsman::agent::netlink
