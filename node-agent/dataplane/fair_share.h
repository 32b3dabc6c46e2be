// Room that all Services share, such as a set in the kernel, is shared out among namespaces, which
// are tenants: who asks for much must not take it from those who ask for little.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace pointsman::agent {

struct Demand {
  std::string_view ns;
  std::string_view service;
  uint64_t amount = 0;
};

// The Services that have to do without, as indexes into `demands`, sorted. None while everything
// fits. Else, until it does, the namespace that has most loses its largest Service; of equals the
// last by name. The result depends on what is asked for alone, and not on its order.
std::vector<size_t> BeyondFairShare(const std::vector<Demand>& demands, uint64_t room);

}  // namespace pointsman::agent
