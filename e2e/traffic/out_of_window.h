// TCP segments that connection tracking finds invalid: as from a machine that has mixed up its
// sequence numbers (kubernetes#74839).
#pragma once

#include <chrono>
#include <cstdint>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

// Waits for a segment that comes to `local` from the peer's port `peer_port`, and answers it with
// one that acknowledges all there is to but whose own sequence number is far outside of any window;
// `count` times. Needs CAP_NET_RAW. Throws std::system_error, and std::runtime_error when there is
// no such segment within `timeout`.
void SendOutOfWindow(const Endpoint& local, std::uint16_t peer_port, int count,
                     std::chrono::milliseconds timeout);

}  // namespace pointsman::e2e
