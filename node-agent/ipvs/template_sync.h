// Makes persistence templates, with which IPVS remembers to which backend a client goes. No netlink
// request makes one; connection synchronisation does, which is there so that another machine can
// take over a load balancer's connections (net/netfilter/ipvs/ip_vs_sync.c): for a moment the
// kernel runs a backup daemon, which takes templates from a multicast group on the loopback
// interface, and we send them there.
//
// Whoever may send to that group can make IPVS entries. On the loopback interface that is the
// processes of this network namespace alone; group, port and sync id are drawn anew each time, and
// the daemon is stopped as soon as the templates are there.
//
// A template made so is as any other (IP_VS_CONN_F_SYNC counts for connections only: ip_vs_conn.c,
// ip_vs_xmit.c), but for one thing: a new connection of its client gives it the time again that it
// had at first, and that is the time it is sent with, not the virtual server's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/ipvs_templates.h"

namespace pointsman::agent::ipvs {

// Of a virtual server on this port IPVS cannot be told a template: it looks the server up by the
// template's port, which is 0.
inline constexpr uint16_t kFtpPort = 21;

// Messages of version 1 (struct ip_vs_sync_mesg) with all of `templates`, each shorter than 1400
// bytes. `left` is at least 1 s (0 means 3 minutes to the kernel).
std::vector<std::string> SyncMessages(uint8_t sync_id,
                                      std::span<const netlink::IpvsTemplate> templates);

// Makes them; where the kernel has one for the same protocol, client, address and port already,
// that one stays. Takes 2 s at most; what is not seen to be there by then is one problem of the
// result. So is a backup daemon that someone else runs, which is left alone. No port is kFtpPort;
// of several for the same the first counts.
void MakeTemplates(netlink::Ipvs& ipvs, const std::vector<netlink::IpvsTemplate>& templates,
                   SyncResult& result);

// Stops the daemon if a process of ours that was killed has left it. Returns whether it had. Throws
// std::system_error.
bool StopOwnDaemon(netlink::Ipvs& ipvs);

}  // namespace pointsman::agent::ipvs
