// What a NodeProxy's status says of the kernel's parameters.
#pragma once

#include <string>
#include <vector>

#include "kube/pointsman/node_proxy.h"

namespace pointsman::agent {

// Reads each of `names` (as ReadSysctl takes them), each once, sorted by name. What cannot be read
// is left out: whoever needs it reports that. No more than the schema allows, the first ones.
std::vector<kube::SysctlStatus> ReadSysctls(const std::vector<std::string>& names);

}  // namespace pointsman::agent
