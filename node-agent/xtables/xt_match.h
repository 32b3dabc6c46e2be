// Asks the running kernel for a match of xtables, as iptables does itself before it uses one.
#pragma once

#include <cstdint>
#include <string_view>

#include "kube/net/ip_address.h"

namespace pointsman::agent::xtables {

// How iptables' tables are kept in the kernel.
enum class XtablesVariant : uint8_t { kLegacy, kNft };

// `name`: "recent", "bpf", … One that is in a module that can be loaded is loaded by the kernel.
// Throws std::system_error when the kernel does not let us ask.
bool KernelHasXtMatch(net::Family family, XtablesVariant variant, std::string_view name);

}  // namespace pointsman::agent::xtables
