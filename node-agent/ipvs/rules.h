// The iptables rules of ipvs mode. They do not change with the Services: what is dynamic is in
// ipsets, so iptables-restore runs only when the rules are not there or were damaged.
#pragma once

#include <vector>

#include "kube/net/ip_address.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/ipvs/chains.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent::ipvs {

// Pure. `random_fully`: MASQUERADE knows --random-fully. Throws std::invalid_argument that names a
// field of the settings.
std::vector<Chain> DesiredChains(net::Family family, const kube::ProxySettings& settings,
                                 const NodeNetwork& node, bool random_fully);

}  // namespace pointsman::agent::ipvs
