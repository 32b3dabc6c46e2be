// Connection tracking entries over nfnetlink: reading and deleting.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

struct ConntrackTuple {
  net::IpAddress source;
  net::IpAddress destination;
  uint8_t protocol = 0;  // IPPROTO_…
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
};

struct ConntrackFlow {
  ConntrackTuple original;  // as the client sends
  ConntrackTuple reply;     // as the answers arrive: its source is the backend that was chosen
  uint32_t id = 0;
  uint32_t status = 0;  // IPS_… bits
  uint32_t mark = 0;
  uint16_t zone = 0;
  uint8_t tcp_state = 0;  // TCP_CONNTRACK_…; TCP only
};

// Can either side still send on it? Not so of TCP connections that are closed and only remembered;
// of UDP flows it is taken as soon as both sides have sent more than once (IPS_ASSURED).
bool IsOpen(const ConntrackFlow& flow);

// Not thread-safe.
class Conntrack {
 public:
  Conntrack();

  // Calls `each` with every flow of `family` and `protocol` (0: all), in one dump.
  // Throws std::system_error.
  void ForEach(net::Family family, uint8_t protocol,
               const std::function<void(const ConntrackFlow&)>& each);
  // Appends the deletion of this very flow (tuple, zone and id): a later flow with the same tuple
  // is not hit. ENOENT: it is gone.
  static size_t Delete(Batch& batch, const ConntrackFlow& flow);
  std::vector<Failure> Execute(Batch& batch) { return socket_.Execute(batch); }

 private:
  Socket socket_;
};

}  // namespace pointsman::agent::netlink
