// The connections that a mode which sends packets on by DNAT still carries while it drains, by
// connection tracking. Those that come later are another mode's and may look the same: ipvs mode
// sends node ports to itself by DNAT.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_set>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/conntrack.h"

namespace pointsman::agent {

// Of one family. Not thread-safe. What throws std::system_error leaves it as it was.
class DrainingFlows {
 public:
  explicit DrainingFlows(net::Family family) : family_(family) {}

  // New connections no longer come: remembers the flows that went through DNAT and that `is_ours`
  // knows. Returns how many of them are open.
  uint64_t Begin(const std::function<bool(const netlink::ConntrackFlow&)>& is_ours);
  // How many of them are open now.
  uint64_t Count() const;
  void clear() { ids_.clear(); }

 private:
  const net::Family family_;
  std::unordered_set<uint32_t> ids_;  // conntrack's
};

}  // namespace pointsman::agent
