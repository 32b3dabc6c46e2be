// The Services as userspace mode's rules and its forwarder have them.
#pragma once

#include <string>
#include <vector>

#include "node-agent/dataplane/listed_service.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {

// `directory`: of the forwarders' control sockets. Backends are those of the forwarders of this
// network namespace; where none answers there are none, and `problems` says why.
std::vector<ListedService> ListUserspaceServices(xtables::IptablesTool& tool,
                                                 const std::string& directory,
                                                 std::vector<std::string>& problems);

}  // namespace pointsman::agent
