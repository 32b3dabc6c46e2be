// The Services as the table of nftables mode has them, read back.
#pragma once

#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/dataplane/listed_service.h"

namespace pointsman::agent::nft {

// By address, node ports last. None where there is no such table. Throws std::system_error.
std::vector<ListedService> ListServices(net::Family family);

}  // namespace pointsman::agent::nft
