#include "node-agent/conntrack/stale_flows.h"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <system_error>
#include <tuple>
#include <unordered_map>

namespace pointsman::agent {
namespace {

using netlink::ConntrackFlow;

struct Place {
  net::IpAddress ip;
  uint16_t port = 0;
  auto operator<=>(const Place&) const = default;
};
struct PlaceHash {
  size_t operator()(const Place& place) const noexcept {
    return std::hash<net::IpAddress>()(place.ip) * 31 + place.port;
  }
};
// Not copied: a Service has them once, and as many frontends as it wants.
struct Allowed {
  std::vector<const BackendChoice*> choices;
};
// What is looked for, of one family.
struct Search {
  std::unordered_map<Place, Allowed, PlaceHash> frontends;
};
using Searches = std::map<net::Family, Search>;

bool NeedsCleaning(const ServicePortEntry& entry) {
  return entry.id.protocol == Protocol::kUdp;
}

// `wanted`: the entry as it is now; null: it is gone, and so no backend is right.
void AddEntry(Searches& searches, const ServicePortEntry& where, const ServicePortEntry* wanted,
              const NodeNetwork& node) {
  Search& search = searches[where.id.family];
  auto add = [&](const net::IpAddress& ip, uint16_t port, bool external) {
    Allowed& allowed = search.frontends[{ip, port}];
    if (wanted == nullptr) return;
    if (!external) {
      allowed.choices.push_back(&wanted->internal);
      return;
    }
    allowed.choices.push_back(&wanted->external);
    // Pods and the node itself are served by these.
    if (wanted->external_local) allowed.choices.push_back(&wanted->external_from_node);
  };
  if (!where.cluster_ip.IsUnspecified()) add(where.cluster_ip, where.port, false);
  for (const net::IpAddress& ip : where.external_ips)
    add(ip, where.port, true);
  for (const net::IpAddress& ip : where.load_balancer_ips)
    add(ip, where.port, true);
  if (where.node_port == 0) return;
  for (const net::IpAddress& ip : node.node_port_addresses) {
    if (ip.family() == where.id.family) add(ip, where.node_port, true);
  }
}

// Did a backend go, or did the first one come, or did a frontend go or come?
bool Matters(const EntryChange& change) {
  if (change.before == nullptr || change.after == nullptr) return true;
  auto lost_or_first = [](const BackendChoice& before, const BackendChoice& after) {
    if (before.backends.empty() && !after.backends.empty()) return true;
    return !std::includes(after.backends.begin(), after.backends.end(), before.backends.begin(),
                          before.backends.end());
  };
  const ServicePortEntry& b = *change.before;
  const ServicePortEntry& a = *change.after;
  return std::tie(b.cluster_ip, b.port, b.node_port, b.external_ips, b.load_balancer_ips) !=
             std::tie(a.cluster_ip, a.port, a.node_port, a.external_ips, a.load_balancer_ips) ||
         lost_or_first(b.internal, a.internal) || lost_or_first(b.external, a.external) ||
         lost_or_first(b.external_from_node, a.external_from_node);
}

StaleFlows::Result Carry(netlink::Conntrack& conntrack,
                         const StaleFlows::LooksAfterItsOwn& looks_after_its_own,
                         Searches& searches) {
  StaleFlows::Result result;
  for (auto& [family, search] : searches) {
    std::vector<ConntrackFlow> stale;
    conntrack.ForEach(
        family, IPPROTO_UDP, [&, &frontends = search.frontends](const ConntrackFlow& flow) {
          ++result.looked_at;
          const auto found =
              frontends.find({flow.original.destination, flow.original.destination_port});
          if (found == frontends.end()) return;
          const Place chosen{flow.reply.source, flow.reply.source_port};
          if (looks_after_its_own(chosen.ip)) return;
          const auto& choices = found->second.choices;
          if (std::any_of(choices.begin(), choices.end(), [&](const BackendChoice* choice) {
                return Has(*choice, chosen.ip, chosen.port);
              }))
            return;
          stale.push_back(flow);
        });
    if (stale.empty()) continue;
    netlink::Batch batch;
    for (const ConntrackFlow& flow : stale)
      netlink::Conntrack::Delete(batch, flow);
    uint64_t gone_before = 0;
    for (const netlink::Failure& failure : conntrack.Execute(batch)) {
      ++gone_before;
      if (failure.error == ENOENT) continue;  // it ended by itself
      const ConntrackFlow& flow = stale[failure.index];
      result.sync.problems.push_back({"conntrack " + flow.original.source.ToString() + " to " +
                                          flow.original.destination.ToString() + " port " +
                                          std::to_string(flow.original.destination_port),
                                      "delete: " + std::generic_category().message(failure.error)});
    }
    result.sync.kernel_writes += stale.size() - gone_before;
  }
  return result;
}

}  // namespace

StaleFlows::Result StaleFlows::Clean(const ServiceModel& model, const ModelDelta& delta) {
  Searches searches;
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.after != nullptr ? change.after : change.before;
    if (!NeedsCleaning(*any) || !Matters(change)) continue;
    if (change.before != nullptr) AddEntry(searches, *change.before, nullptr, model.node);
    if (change.after != nullptr) AddEntry(searches, *change.after, change.after.get(), model.node);
  }
  return Carry(conntrack_, looks_after_its_own_, searches);
}

StaleFlows::Result StaleFlows::CleanAll(const ServiceModel& model) {
  Searches searches;
  for (const auto& [id, entry] : model.entries) {
    if (NeedsCleaning(*entry)) AddEntry(searches, *entry, entry.get(), model.node);
  }
  return Carry(conntrack_, looks_after_its_own_, searches);
}

}  // namespace pointsman::agent
