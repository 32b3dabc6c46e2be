// Names of chains (at most 28 characters) and the hashes in them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kube/objects/service.h"

namespace pointsman::agent::xtables {

// Each of our chains begins with it, in every table and mode.
inline constexpr std::string_view kOurs = "POINTSMAN-";

// Of service_hash.h's 60 bits: 12 characters of a-z2-7 in upper case.
std::string HashText(uint64_t hash);

// `service`: ServiceHash. `kind`: S cluster traffic, E traffic from outside, X such traffic from
// this node and its pods under a Local policy, F source ranges.
std::string ServiceChain(std::string_view prefix, char kind, uint64_t service);

// "tcp", "udp", "sctp".
std::string_view ProtocolName(kube::Protocol protocol);

}  // namespace pointsman::agent::xtables
