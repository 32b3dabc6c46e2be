#include "node-agent/nftables/drain.h"

#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <vector>

#include <spdlog/fmt/fmt.h>

#include "node-agent/netlink/conntrack.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/nftables/elements.h"
#include "node-agent/nftables/layout.h"

namespace pointsman::agent::nft {
namespace {

// The keys of what leads packets to Services.
std::unordered_set<std::string> FrontendsOf(const ServiceModel& model, net::Family family) {
  std::unordered_set<std::string> frontends;
  std::vector<Element> elements;
  for (const auto& [id, entry] : model.entries) {
    if (id.family != family) continue;
    elements.clear();
    AppendElements(*entry, elements);
    for (const Element& element : elements) {
      if (!IsEntrance(element.set)) continue;
      frontends.emplace(element.Raw(SetsOf(family)[static_cast<size_t>(element.set)]).key);
    }
  }
  return frontends;
}

}  // namespace

// The chains stay, and with them conntrack's hooks, without which established connections stall; so
// do the masquerade rules.
void Drain::EmptyEntrances(Connection& connection) const {
  const KernelTable kernel = ReadTable(connection, family_, kTable);
  Transaction transaction(family_, kTable);
  for (const std::string_view chain : {kPrerouting, kOutput, kRefusePrerouting, kRefuseOutput}) {
    const auto found = kernel.chains.find(chain);
    if (found != kernel.chains.end() && !found->second.rules.empty()) transaction.FlushChain(chain);
  }
  if (transaction.empty()) return;
  const std::vector<Refusal> refusals = connection.Commit(transaction);
  if (refusals.empty()) return;
  throw std::system_error(
      refusals[0].error, std::generic_category(),
      fmt::format("drain nftables {} {}", net::ToString(family_), refusals[0].object));
}

uint64_t Drain::Begin(const ServiceModel& model, Connection& connection) {
  EmptyEntrances(connection);
  const std::unordered_set<std::string> frontends = FrontendsOf(model, family_);
  const uint64_t open = flows_.Begin([&frontends](const netlink::ConntrackFlow& flow) {
    const std::string by_address = FrontendKey(flow.original.destination, flow.original.protocol,
                                               flow.original.destination_port);
    const std::string by_port = by_address.substr(flow.original.destination.size());
    return frontends.contains(by_address) || frontends.contains(by_port);
  });
  active_ = true;
  return open;
}

void Drain::End() {
  active_ = false;
  flows_.clear();
}

}  // namespace pointsman::agent::nft
