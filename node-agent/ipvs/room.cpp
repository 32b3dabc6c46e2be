#include "node-agent/ipvs/room.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/dataplane/fair_share.h"
#include "node-agent/ipvs/frontend.h"

namespace pointsman::agent::ipvs {
namespace {

struct Kind {
  uint64_t Needs::*needs;
  uint64_t Room::*room;
  const char* what;
};
constexpr Kind kKinds[] = {
    {&Needs::servers, &Room::servers, "virtual servers"},
    {&Needs::sources, &Room::sources, "source ranges times load balancer IPs"},
    {&Needs::hairpins, &Room::hairpins, "endpoints that may be on this node"},
    {&Needs::destinations, &Room::destinations, "endpoints times addresses"},
};

uint64_t CountMaybeHere(const BackendChoice& choice) {
  return static_cast<uint64_t>(
      std::count_if(choice.backends.begin(), choice.backends.end(),
                    [](const Backend& backend) { return backend.MayBeHere(); }));
}

}  // namespace

Needs& Needs::operator+=(const Needs& other) {
  for (const Kind& kind : kKinds)
    this->*kind.needs += other.*kind.needs;
  return *this;
}

Needs& Needs::operator-=(const Needs& other) {
  for (const Kind& kind : kKinds)
    this->*kind.needs -= other.*kind.needs;
  return *this;
}

Needs NeedsOf(const ServicePortEntry& entry) {
  const uint64_t cluster = entry.cluster_ip.IsUnspecified() ? 0 : 1;
  const uint64_t external =
      entry.load_balancer_ips.size() + entry.external_ips.size() + (entry.node_port != 0 ? 1U : 0U);
  const uint64_t near = entry.external_local ? external : 0;
  Needs needs;
  needs.servers = cluster + external + near;
  // A range of everything is two elements, and the node itself is one.
  if (!entry.source_ranges.empty())
    needs.sources = entry.load_balancer_ips.size() * (entry.source_ranges.size() + 2);
  needs.hairpins = std::max({CountMaybeHere(entry.internal), CountMaybeHere(entry.external),
                             CountMaybeHere(entry.external_from_node)});
  needs.destinations = cluster * entry.internal.backends.size() +
                       external * entry.external.backends.size() +
                       near * entry.external_from_node.backends.size();
  return needs;
}

bool Room::Has(const Needs& needs) const {
  return std::all_of(std::begin(kKinds), std::end(kKinds),
                     [&](const Kind& kind) { return needs.*kind.needs <= this->*kind.room; });
}

std::map<ServiceName, std::string> Crowded(
    const ServiceModel& model, const Room& room,
    const std::function<bool(const ServicePortEntry&)>& served) {
  Needs all;
  for (const auto& [id, entry] : model.entries) {
    if (served(*entry)) all += NeedsOf(*entry);
  }
  std::map<ServiceName, std::string> crowded;
  if (room.Has(all)) return crowded;
  std::map<ServiceName, Needs> of_service;
  for (const auto& [id, entry] : model.entries) {
    if (served(*entry)) of_service[{id.ns, id.name}] += NeedsOf(*entry);
  }
  for (const Kind& kind : kKinds) {
    std::vector<Demand> demands;
    std::vector<const ServiceName*> names;
    for (const auto& [name, needs] : of_service) {
      if (crowded.contains(name)) continue;
      demands.push_back({name.first, name.second, needs.*kind.needs});
      names.push_back(&name);
    }
    for (const size_t i : BeyondFairShare(demands, room.*kind.room)) {
      crowded.emplace(
          *names[i],
          fmt::format("is not served: it needs {} {}, and this node has {} for all Services; where "
                      "they are not enough, the largest Service of the namespace with most of them "
                      "goes first",
                      demands[i].amount, kind.what, room.*kind.room));
    }
  }
  return crowded;
}

}  // namespace pointsman::agent::ipvs
