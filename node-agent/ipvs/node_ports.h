// How node ports become virtual servers: one for each address that answers node ports.
#pragma once

#include <functional>

#include "node-agent/ipvs/frontend.h"

namespace pointsman::agent::ipvs {

// Loopback addresses get none: the kernel drops a packet from 127.0.0.1 that IPVS sends out of
// another interface ("martian"), so a connection would hang (kubernetes#67730, #96879). Without a
// virtual server it is refused at once.
void ForEachNodePortFrontend(const ServicePortEntry& entry, const NodeNetwork& node,
                             const std::function<void(const FrontendKey&)>& each);

}  // namespace pointsman::agent::ipvs
