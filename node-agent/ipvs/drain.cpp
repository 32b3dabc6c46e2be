#include "node-agent/ipvs/drain.h"

#include <algorithm>
#include <chrono>
#include <netinet/in.h>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "node-agent/ipvs/host_addresses.h"
#include "node-agent/netlink/ipvs_half_open.h"
#include "node-agent/netlink/ipvs_table.h"
#include "node-agent/netlink/local_route.h"

namespace pointsman::agent::ipvs {
namespace {

constexpr auto kUdpIdle = std::chrono::seconds(30);
// A look for those that nobody has may take that much. What it does not come to counts as
// established: tens of thousands in a table.
constexpr auto kHalfOpenTime = std::chrono::milliseconds(200);

uint64_t HalfOpen(const std::unordered_set<FrontendKey, FrontendKeyHash>& owned) {
  uint64_t count = 0;
  netlink::IpvsServer server;
  server.protocol = IPPROTO_TCP;
  netlink::ReadIpvsHalfOpen(std::chrono::steady_clock::now() + kHalfOpenTime,
                            [&](const net::IpAddress& address, uint16_t port) {
                              server.address = address;
                              server.port = port;
                              if (owned.contains(KeyOf(server))) ++count;
                            });
  return count;
}

}  // namespace

DrainStatus DrainCounter::Count() {
  const std::vector<FrontendKey> list = reader_.Owned();
  const std::unordered_set<FrontendKey, FrontendKeyHash> owned(list.begin(), list.end());
  DrainStatus status;
  std::vector<netlink::IpvsServer> udp;  // with flows
  netlink::ReadIpvsTable(
      [&](const netlink::IpvsServer& server, std::vector<netlink::IpvsDestination>& destinations) {
        if (server.fwmark != 0 || !owned.contains(KeyOf(server))) return;
        if (server.protocol != IPPROTO_UDP) {
          for (const netlink::IpvsDestination& d : destinations)
            status.end_with_it += d.active;
        } else if (std::any_of(destinations.begin(), destinations.end(),
                               [](const auto& d) { return d.inactive != 0; })) {
          udp.push_back(server);
        }
      });
  // The file may have one more than was counted a moment ago.
  if (status.end_with_it > 0) status.end_with_it -= std::min(status.end_with_it, HalfOpen(owned));
  status.connections = status.end_with_it;
  const auto now = time_.Now();
  std::map<Destination, Activity> seen;
  for (const netlink::IpvsServer& server : udp) {
    // The file does not count packets.
    for (const netlink::IpvsDestination& d : reader_.Destinations(server)) {
      if (d.inactive == 0) continue;
      const Destination destination{KeyOf(server), d.address, d.port};
      Activity activity{d.in_packets, now};
      if (const auto known = udp_.find(destination);
          known != udp_.end() && known->second.packets == d.in_packets)
        activity.changed = known->second.changed;
      if (now - activity.changed < kUdpIdle) status.connections += d.inactive;
      seen.emplace(destination, activity);
    }
  }
  udp_ = std::move(seen);
  return status;
}

void KeepVipsFromBeingSources(netlink::Socket& route, int device_index) {
  // IPv6 takes no source from a route of type local that names none (net/ipv6/route.c).
  if (device_index == 0) return;
  const auto source = UsualSource(route, device_index);
  if (!source) return;
  const std::vector<net::IpAddress> vips =
      netlink::LocalRoutes(route, net::Family::kIPv4, device_index);
  netlink::Batch batch;
  for (const net::IpAddress& vip : vips)
    netlink::SetLocalRouteSource(batch, vip, device_index, *source);
  if (batch.empty()) return;
  for (const netlink::Failure& failure : route.Execute(batch)) {
    spdlog::warn("connections of this node to {} will end with ipvs mode: {}",
                 vips[failure.index].ToString(), std::generic_category().message(failure.error));
  }
}

}  // namespace pointsman::agent::ipvs
