// For tests: what is in the kernel's nat and filter tables, comparable from one time to another.
#pragma once

#include <string>

#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {

// The chains and their rules; not the order in which the chains were made, nor any counters.
std::string RulesOf(xtables::IptablesTool& tool);

}  // namespace pointsman::agent::testing
