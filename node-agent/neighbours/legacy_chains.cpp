#include "node-agent/neighbours/legacy_chains.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <cstddef>
#include <linux/netfilter.h>
#include <string>
#include <system_error>

#include <spdlog/fmt/fmt.h>

#include "node-agent/xtables/legacy_table.h"

namespace pointsman::agent {
namespace {

template <typename Types>
void VisitLegacyTable(int fd, const std::string& table, const LegacyChainVisitor& visitor) {
  size_t size = 0;
  const auto copy =
      xtables::ReadLegacyTable<Types>(fd, table, [&size](const typename Types::Info& info) {
        size = info.size;
        return size <= kLargestLegacyTable;
      });
  if (!copy) {
    visitor.unread(table, fmt::format("it has {} bytes, and no more than {} are read", size,
                                      kLargestLegacyTable));
    return;
  }
  for (size_t at = 0; const auto* entry = copy->At(at); at += entry->next_offset) {
    const std::string_view name = copy->ChainBegunBy(*entry);
    if (!name.empty() && name != XT_ERROR_TARGET) visitor.chain(table, name);  // the table's end
  }
  if ((copy->info().valid_hooks & (1U << NF_INET_FORWARD)) == 0) return;
  const auto* policy = copy->At(copy->info().underflow[NF_INET_FORWARD]);
  if (policy != nullptr && copy->Drops(*policy)) visitor.forward_policy_drop(table);
}

}  // namespace

void VisitLegacyChains(net::Family family, const LegacyChainVisitor& visitor) {
  const auto tables = xtables::LegacyTablesInUse(family);
  if (tables.empty()) return;
  const UniqueFd socket = xtables::LegacyTableSocket(family);
  for (const std::string& table : tables) {
    try {
      if (family == net::Family::kIPv4)
        VisitLegacyTable<xtables::LegacyIpv4>(socket.get(), table, visitor);
      else
        VisitLegacyTable<xtables::LegacyIpv6>(socket.get(), table, visitor);
    } catch (const std::system_error& error) {
      visitor.unread(table, error.what());
    }
  }
}

}  // namespace pointsman::agent
