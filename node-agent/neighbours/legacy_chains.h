// The chains of iptables' legacy tables, asked of the kernel without a process.
#pragma once

#include <functional>
#include <string_view>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

// Called with what there is, one after the other; the texts live no longer than the call.
struct LegacyChainVisitor {
  std::function<void(std::string_view table, std::string_view chain)> chain;  // people's own
  std::function<void(std::string_view table)> forward_policy_drop;
  std::function<void(std::string_view table, std::string_view why)> unread;
};

// Of the tables that somebody uses: to ask for another would make it, and load its module. A table
// of more than kLargestLegacyTable is not read. Nothing where the kernel has no such tables. For
// the calling thread's network namespace. Throws std::system_error when it cannot be asked at all.
inline constexpr size_t kLargestLegacyTable = size_t{64} << 20;  // bytes
void VisitLegacyChains(net::Family family, const LegacyChainVisitor& visitor);

}  // namespace pointsman::agent
