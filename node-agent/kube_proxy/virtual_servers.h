// What a kube-proxy in ipvs mode left behind beside its rules: virtual servers, ipsets, the
// interface kube-ipvs0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::kube_proxy {

// Is it Pointsman's, or somebody else's of whom one knows?
using IsOthers = std::function<bool(const netlink::IpvsServer&)>;

// Of the calling thread's network namespace. Not thread-safe. All throw std::system_error.
class VirtualServers {
 public:
  // Those whose address is on kube-ipvs0; on the node's other addresses those whose port is in
  // kube-proxy's ipset of node ports. None of `others`, none by packet mark.
  explicit VirtualServers(IsOthers others) : others_(std::move(others)) {}

  std::vector<netlink::IpvsServer> Find();
  // What is open through them: connections, and flows of UDP. What has ended in TCP and is only
  // remembered does not count.
  uint64_t Open(const std::vector<netlink::IpvsServer>& servers);
  // And the flows of UDP that connection tracking remembers of them: what a client sends on such a
  // one would be nobody's any more. Returns what could not be removed, for a person.
  std::vector<std::string> Remove(const std::vector<netlink::IpvsServer>& servers);

 private:
  bool HasIpvs() const;
  const IsOthers others_;
};

// The node's own connections to an address of kube-ipvs0 have that as their source, and end with
// it: those that another mode gets from now on shall not. IPv4; IPv6 takes no source from such a
// route (net/ipv6/route.c).
void KeepAddressesFromBeingSources();

// Those that nothing refers to are destroyed. `in_use`: for a person.
size_t DestroyIpsets(std::vector<std::string>& in_use);

// kube-ipvs0, if it is not Pointsman's. Returns whether there was one.
bool RemoveLink();
// It stays, without its addresses, as Pointsman's (neighbours/marker_link.h): whoever looks for it
// does not see it go.
bool TakeOverLink();
bool HasLink();

}  // namespace pointsman::agent::kube_proxy
