// Which modes have anything in a node's kernel, read back with the tools a person would use.
#pragma once

#include <set>
#include <string>

#include "e2e/testbed/cluster.h"

namespace pointsman::e2e {

// By the names of docs/kernel-names.md. Not on a node beside a kube-proxy in ipvs mode, whose
// virtual servers and interface have no such name.
std::set<std::string> ModesIn(const Node& node);

}  // namespace pointsman::e2e
