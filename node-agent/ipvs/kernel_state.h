// What the kernel holds of ipvs mode, read back.
#pragma once

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::ipvs {

struct ServerState {
  netlink::IpvsServer server;
  std::vector<netlink::IpvsDestination> destinations;  // sorted by address and port
};

struct KernelState {
  // All virtual servers, also those of others, but not those by packet mark.
  std::unordered_map<FrontendKey, ServerState, FrontendKeyHash> servers;
  std::vector<SetEntry> elements;           // of our sets, sorted
  std::unordered_set<net::IpAddress> vips;  // the local routes through our device

  bool Has(const SetEntry& entry) const;
  // nullptr: there is none.
  const ServerState* Server(const FrontendKey& key) const;
};

void SortDestinations(std::vector<netlink::IpvsDestination>& destinations);

// Not thread-safe. All of it throws std::system_error or std::runtime_error.
class KernelReader {
 public:
  // They outlive this.
  KernelReader(netlink::Ipvs& ipvs, netlink::Ipset& ipset, netlink::Socket& route)
      : ipvs_(ipvs), ipset_(ipset), route_(route) {}

  // Sets and VIPs of these families. `device_index` 0: there is no device.
  KernelState Read(const std::vector<net::Family>& families, int device_index);
  // One set's elements, sorted; none where there is no such set.
  std::vector<SetEntry> Elements(SetId id, net::Family family);
  // The virtual servers that are ours, by the kernel's own record, of both families: an earlier
  // process may have served another one.
  std::vector<FrontendKey> Owned();
  // Sorted; none where there is no such server. With counts of packets, unlike Read's.
  std::vector<netlink::IpvsDestination> Destinations(const netlink::IpvsServer& server);

 private:
  void ReadServers(KernelState& state);

  netlink::Ipvs& ipvs_;
  netlink::Ipset& ipset_;
  netlink::Socket& route_;
};

}  // namespace pointsman::agent::ipvs
