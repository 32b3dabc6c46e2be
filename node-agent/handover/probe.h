// TCP connections from this node: what becomes of them.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "kube/net/socket_address.h"

namespace pointsman::agent {

// What became of a connection; the later, the more is known to work.
enum class ProbeOutcome : uint8_t {
  kNotOpened,  // refused, unreachable, or not opened in time
  kReset,      // opened, then reset
  kSilent,     // opened, and nothing more came in time
  kSpoke,      // opened; then data came, or an orderly end
};

// How far a probe goes.
enum class ProbeDepth : uint8_t {
  kOpen,      // until the connection opens (kSilent) or not
  kResponse,  // then it sends its end (FIN), as a client that connects and closes does, and waits
              // for what comes. Most servers speak first, or end the connection then.
};

// Connects to all at once; the outcomes, in order. `timeout`: of each try. What does not open is
// tried twice: one lost packet must not revert a handover. Throws std::system_error if no socket
// can be made.
std::vector<ProbeOutcome> RunTcpProbes(const std::vector<net::IpPort>& to, ProbeDepth depth,
                                       std::chrono::milliseconds timeout);

}  // namespace pointsman::agent
