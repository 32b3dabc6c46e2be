// Graceful termination, as kube-proxy's graceful_termination.go: a destination whose backend has
// left keeps its TCP and SCTP connections. It has weight 0 until they have ended, as long as the
// backend terminates (ServicePortEntry::draining) and at most the drain timeout after it has left
// the Service's slices. UDP has no end that IPVS could see: its flows end at once.
#pragma once

#include <chrono>
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/ipvs/diff.h"
#include "node-agent/ipvs/writer.h"

namespace pointsman::agent::ipvs {

// The destinations of weight 0, of all virtual servers. Not thread-safe.
class GracefulTermination {
 public:
  using Clock = std::chrono::steady_clock;

  explicit GracefulTermination(kube::Duration drain_timeout) : drain_timeout_(drain_timeout) {}

  // Plans what turns the virtual server that is present into the one that is wanted. Returns
  // whether one will be there. `counted`: the connection counts of what is present are the
  // kernel's.
  bool Write(Writer& writer, const ServerDiff& diff, bool counted);
  // After a flush of what Write planned: plans the end of the destinations that have no
  // connections, of the virtual servers of which Write has stopped one. Returns the virtual servers
  // that go with their last one.
  std::vector<FrontendKey> DeleteIdle(Writer& writer, netlink::Ipvs& ipvs,
                                      const FrontendTable& frontends);
  // Appends those of one virtual server as they are in the kernel, without counts.
  void AppendTo(std::vector<netlink::IpvsDestination>& destinations, const FrontendKey& key) const;
  // Forgets those of other virtual servers.
  void Keep(const FrontendTable& frontends);
  void clear();
  // When they are to be looked at again; Clock::time_point::max(): there are none.
  Clock::time_point NextLook() const;

 private:
  struct Terminating {
    net::IpAddress ip;
    uint16_t port = 0;
    Clock::time_point deadline;
    // Its pod's grace period comes first: the deadline counts from when it has left the slices.
    bool pod_terminates = false;
  };
  // Of a destination that is not wanted. Returns whether it stays.
  bool Terminate(Writer& writer, const ServerDiff& diff, const netlink::IpvsDestination& d,
                 bool counted, Clock::time_point now);
  // Returns whether it was there.
  bool Forget(const FrontendKey& key, const netlink::IpvsDestination& d);

  const kube::Duration drain_timeout_;
  std::unordered_map<FrontendKey, std::vector<Terminating>, FrontendKeyHash> terminating_;
  // Virtual servers of which one was stopped, or outlived its pod, since DeleteIdle.
  std::unordered_set<FrontendKey, FrontendKeyHash> stopped_;
};

}  // namespace pointsman::agent::ipvs
