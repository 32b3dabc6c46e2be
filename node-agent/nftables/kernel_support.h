// What this kernel's nf_tables can do, asked by transactions that are checked and not done.
#pragma once

#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/nf_tables/connection.h"

namespace pointsman::agent::nft {

// The oldest kernel whose nf_tables has all that our rules use is 5.10: of that, intervals in
// concatenated keys are from 5.6 and rejecting in prerouting from 5.9.

// Everything that this kernel refuses of what our table can have in it, in words ("a rule of chain
// class-reject: Operation not supported"); empty: mode nftables can run. Kernels load modules of
// nf_tables that they miss on being asked. Throws std::system_error when it cannot be asked.
std::vector<std::string> MissingFeatures(net::Family family);

}  // namespace pointsman::agent::nft
