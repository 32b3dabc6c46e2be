// For tests: the tables of nftables mode as text.
#pragma once

#include <string>

#include "kube/net/ip_address.h"

namespace pointsman::agent::testing {

// Everything that a table of ours has but the clients of `affinity`. Of rules the bytes that the
// kernel gives.
std::string NftablesSnapshot(net::Family family);

}  // namespace pointsman::agent::testing
