// Beginnings of TCP connections, read off this node's interfaces.
//
// Why not from connection tracking: the kernel enters a connection there when its first packet has
// passed the last hook (nf_conntrack_confirm), so one that is dropped in FORWARD or refused in
// INPUT leaves no entry that could stay unanswered. On the interface by which it comes it is seen
// whatever happens to it later, in each mode alike, and before any address is translated; and
// nothing depends on how many connections the node tracks.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/unique_fd.h"
#include "node-agent/traffic/segment.h"

namespace pointsman::agent {

// A packet socket (CAP_NET_RAW) with a ring of fixed size. The kernel's filter lets SYN and RST
// through alone. It changes nothing and takes nothing from anyone else; while it is open each
// packet of the node costs one run of the filter, and what the node sends one clone of its header.
// Not thread-safe.
class ConnectionTap {
 public:
  static constexpr size_t kFrameSize = 256;             // one packet, as far as it is of interest
  static constexpr size_t kRingSize = size_t{8} << 20;  // locked memory of the kernel
  static constexpr size_t kFrames = kRingSize / kFrameSize;

  // Of the calling thread's network namespace. Throws std::system_error.
  ConnectionTap();
  ~ConnectionTap();
  ConnectionTap(const ConnectionTap&) = delete;
  ConnectionTap& operator=(const ConnectionTap&) = delete;

  // `leaves`: this node sends it; else it came by an interface other than loopback. `age`: how long
  // ago by the kernel's real-time clock, which may be set meanwhile.
  using Each =
      std::function<void(const Segment& segment, bool leaves, std::chrono::nanoseconds age)>;
  // What came since the last call, in order, but at most kFrames. Returns how many more there were,
  // for which the ring had no room. Throws std::system_error.
  uint64_t Read(const Each& each);

 private:
  const int loopback_;  // index
  UniqueFd fd_;
  uint8_t* ring_ = nullptr;
  size_t next_ = 0;  // frame
};

}  // namespace pointsman::agent
