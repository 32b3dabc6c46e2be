// strictARP: only the machine that has an address on the interface a question came in by answers
// ARP for it, so that a load balancer which announces VIPs by ARP (MetalLB) is the only one that
// does (kubernetes#59976). kube-proxy sets net.ipv4.conf.all, which also hits the interfaces of
// pods and breaks networks that answer ARP on them by proxy (kubernetes#70530); here it is set for
// each interface that has an IPv4 address in a subnet, and for no other.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::ipvs {

class StrictArp {
 public:
  // Sets arp_ignore=1 and arp_announce=2 where needed; problems name the parameter.
  void Ensure(netlink::Socket& route, SyncResult& result);
  // Back to the values that Ensure of this object found; an interface set by an earlier process
  // gets the values of net.ipv4.conf.default.
  void Restore(netlink::Socket& route, SyncResult& result);
  // The parameters that the last Ensure looked after.
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::map<std::string, std::string> before_;  // parameter -> value
  std::vector<std::string> names_;
};

}  // namespace pointsman::agent::ipvs
