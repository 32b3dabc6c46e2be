// For tests: which variant of iptables the tools take that are made from now on.
#pragma once

#include <cstdlib>
#include <string>

namespace pointsman::agent::testing {

// "legacy", "nft"; "": they choose (IptablesTool). For tests of one thread.
inline void WishVariant(const std::string& variant) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread.
  ::setenv("POINTSMAN_IPTABLES", variant.c_str(), 1);
}

}  // namespace pointsman::agent::testing
