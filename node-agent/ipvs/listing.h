// The Services as IPVS and our sets have them, read back. No names of Services: ipvs mode leaves
// none in the kernel.
#pragma once

#include <vector>

#include "node-agent/dataplane/listed_service.h"

namespace pointsman::agent::ipvs {

// Ours alone, by address, node ports last; of both families. None where the kernel has no IPVS or
// no ipset. Throws std::system_error or std::runtime_error.
std::vector<ListedService> ListServices();

}  // namespace pointsman::agent::ipvs
