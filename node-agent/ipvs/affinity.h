// sessionAffinity: IPVS remembers a client's backend in a persistence template, which is read from
// the kernel's table of connections and made by connection synchronisation (template_sync.h).
#pragma once

#include <optional>
#include <vector>

#include "node-agent/dataplane/client_binding.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/ipvs/frontend_table.h"
#include "node-agent/ipvs/host_addresses.h"
#include "node-agent/netlink/ipvs.h"

namespace pointsman::agent::ipvs {

// The clients that are bound, of `frontends`, read for 2 s at most: what has not been read by then
// is left out. Throws std::system_error.
// `usual_source`: the node's own, as whose its connections to a VIP will count in the next mode.
std::vector<ClientBinding> ReadAffinity(const FrontendTable& frontends,
                                        const std::optional<net::IpAddress>& usual_source);

// Binds them, as far as `frontends` are theirs; one that is bound already stays where it is.
SyncResult RestoreAffinity(netlink::Ipvs& ipvs, const FrontendTable& frontends,
                           const HostAddresses& host, const std::vector<ClientBinding>& bindings);

}  // namespace pointsman::agent::ipvs
