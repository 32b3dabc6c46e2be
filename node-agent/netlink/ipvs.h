// IPVS over generic netlink: virtual servers, their destinations, time-outs, synchronisation.
// Attributes: /usr/include/linux/ip_vs.h; behaviour: net/netfilter/ipvs/ip_vs_ctl.c.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

struct IpvsServer {
  net::IpAddress address;
  uint16_t port = 0;
  uint8_t protocol = 0;  // IPPROTO_…
  uint32_t fwmark = 0;   // not 0: a server by packet mark; address, port and protocol mean nothing
  std::string scheduler;
  uint32_t flags = 0;        // IP_VS_SVC_F_PERSISTENT, _SCHED1.._SCHED3
  uint32_t persistence = 0;  // seconds; means something only with IP_VS_SVC_F_PERSISTENT
};

struct IpvsDestination {
  net::IpAddress address;
  uint16_t port = 0;
  int32_t weight = 0;
  uint32_t forwarding = 0;  // IP_VS_CONN_F_MASQ, …
  // Only in what is read:
  uint32_t active = 0;    // TCP, SCTP: established
  uint32_t inactive = 0;  // all other connections; all of UDP
  uint64_t in_packets = 0;
};

struct IpvsTimeouts {
  uint32_t tcp = 0, tcp_fin = 0, udp = 0;  // seconds; 0 in a change: leave
};

// A daemon of connection synchronisation (net/netfilter/ipvs/ip_vs_sync.c): the kernel sends what
// it knows of connections to a multicast group, or takes from there what others know. A network
// namespace has at most one of each kind.
struct IpvsDaemon {
  uint32_t state = 0;  // IP_VS_STATE_MASTER or _BACKUP
  std::string interface;
  uint32_t sync_id = 0;  // 1 to 255; 0: a backup takes every one's messages
  // 0.0.0.0 and 0 in what a kernel before Linux 4.3 says; it knows one group and port only.
  net::IpAddress group;
  uint16_t port = 0;
};

// Not thread-safe.
class Ipvs {
 public:
  // Throws std::system_error: ENOENT when the kernel has no IPVS (module not loaded).
  Ipvs();

  // All virtual servers of this network namespace. Throws std::system_error.
  std::vector<IpvsServer> Servers();
  // Appends the server's destinations to `out`. Returns 0, or ESRCH when there is no such server.
  int Destinations(const IpvsServer& server, std::vector<IpvsDestination>& out);

  size_t NewServer(Batch& batch, const IpvsServer& server) const;
  size_t SetServer(Batch& batch, const IpvsServer& server) const;
  size_t DeleteServer(Batch& batch, const IpvsServer& server) const;
  size_t NewDestination(Batch& batch, const IpvsServer& server, const IpvsDestination& d) const;
  size_t SetDestination(Batch& batch, const IpvsServer& server, const IpvsDestination& d) const;
  size_t DeleteDestination(Batch& batch, const IpvsServer& server, const IpvsDestination& d) const;
  std::vector<Failure> Execute(Batch& batch) { return socket_.Execute(batch); }

  IpvsTimeouts Timeouts();
  void SetTimeouts(const IpvsTimeouts& timeouts);

  // Those that run in this network namespace. Throws std::system_error.
  std::vector<IpvsDaemon> Daemons();
  // An IPv4 group. Returns 0 or a positive errno; EEXIST: one of that state runs already.
  int StartDaemon(const IpvsDaemon& daemon);
  // When it returns 0, what a backup daemon had received has been worked off. ESRCH: none runs.
  int StopDaemon(uint32_t state);

 private:
  Socket socket_;
  uint16_t family_id_ = 0;
};

}  // namespace pointsman::agent::netlink
