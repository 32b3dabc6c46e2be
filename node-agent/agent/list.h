// --list: the Services as this node's kernel has them, in one form for all modes.
#pragma once

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/dataplane/listed_service.h"

namespace pointsman::agent {

// As `ipvsadm -Ln`, with names where the kernel has them. `mode`: for the first line.
std::string ListingText(std::string_view mode, const std::vector<ListedService>& services);

// Needs no API server and no agent, and changes nothing. Returns the process's exit code; says on
// the log what could not be read.
int RunList(std::ostream& out);

}  // namespace pointsman::agent
