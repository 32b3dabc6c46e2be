// The forwarder's sockets and limits.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <sys/types.h>
#include <utility>

#include "base/unique_fd.h"
#include "kube/net/ip_address.h"

namespace pointsman::forwarder {

struct PortRange {
  uint16_t first = 0;  // 0: whatever the kernel gives
  uint16_t last = 0;
};

// TCP and UDP, IPv4 and IPv6, all on one port number of every local address.
struct Listeners {
  uint16_t port = 0;
  UniqueFd tcp_v4, udp_v4;
  UniqueFd tcp_v6, udp_v6;  // not there when the kernel has no IPv6
};

// `wanted`: the port to have; 0: any of `range`. Throws std::system_error; EADDRINUSE: names the
// range.
Listeners OpenListeners(uint16_t wanted, PortRange range);

// A non-blocking socket towards a backend, with `mark` (0: none), which tells the rules in OUTPUT
// that it is the forwarder's. None: errno.
UniqueFd OpenBackendSocket(net::Family family, bool udp, uint32_t mark);

// Closes so that the peer sees a reset.
void CloseWithReset(UniqueFd fd);

// Raises the limit of open files as far as it may be, at most to `most`; returns what it is then.
uint64_t RaiseFileLimit(uint64_t most);

// Gives up every capability but those that `keep` lists, for good.
void DropCapabilities(std::initializer_list<int> keep);

}  // namespace pointsman::forwarder
