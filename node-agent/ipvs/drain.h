// What ipvs mode still carries after new connections have gone to another mode.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "kube/time/time_source.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/ipvs/kernel_state.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::ipvs {

// Not thread-safe.
class DrainCounter {
 public:
  // They outlive this.
  explicit DrainCounter(KernelReader& reader,
                        const kube::TimeSource& time = kube::TimeSource::Real())
      : reader_(reader), time_(time) {}

  // Established TCP and SCTP connections of our virtual servers (not those that a policy keeps from
  // an answer, though IPVS counts them), and UDP flows of destinations that
  // got a packet within the last 30 s: IPVS does not say of a single UDP flow when it was last
  // used, so two calls are needed to see that one is idle. Throws std::system_error.
  DrainStatus Count();
  void clear() { udp_.clear(); }

 private:
  struct Activity {
    uint64_t packets = 0;
    kube::TimeSource::time_point changed;
  };
  using Destination = std::tuple<FrontendKey, net::IpAddress, uint16_t>;

  KernelReader& reader_;
  const kube::TimeSource& time_;
  std::map<Destination, Activity> udp_;
};

// The node's own connections to a VIP that is bound here have the VIP as their source, and end
// with it: those that the other mode gets from now on shall not. `device_index`: the VIPs'.
void KeepVipsFromBeingSources(netlink::Socket& route, int device_index);

}  // namespace pointsman::agent::ipvs
