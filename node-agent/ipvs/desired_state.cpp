#include "node-agent/ipvs/desired_state.h"

#include <algorithm>
#include <netinet/in.h>

#include "node-agent/ipvs/internal_addresses.h"

namespace pointsman::agent::ipvs {
namespace {

bool IsKubernetesService(const ServicePortId& id) {
  return id.ns == "default" && id.name == "kubernetes";
}

std::vector<SetEntry> NodeElements(const NodeNetwork& node, const DesiredFacts& facts) {
  std::vector<SetEntry> entries;
  // Nothing is said: every address of the node, which the rules know without a set.
  if (node.every_address) return entries;
  for (const net::IpAddress& ip : node.node_port_addresses) {
    if (facts.serves(ip.family()) && !ip.IsLoopback()) entries.push_back(NodeAddressElement(ip));
  }
  return entries;
}

std::vector<FrontendKey> OrderOf(const FrontendTable& frontends) {
  std::vector<FrontendKey> order;
  order.reserve(frontends.all().size());
  for (const auto& [key, frontend] : frontends.all())
    order.push_back(key);
  const auto place = [&](const FrontendKey& key) {
    const Frontend& frontend = *frontends.Find(key);
    if (IsKubernetesService(frontend.entry->id)) return 0;
    // What this node and its pods are sent to must be there before they are, which is said by the
    // frontend for those outside.
    return IsNear(frontend.source) ? 1 : 2;
  };
  std::sort(order.begin(), order.end());
  std::stable_partition(order.begin(), order.end(),
                        [&](const FrontendKey& key) { return place(key) < 2; });
  std::stable_partition(order.begin(), order.end(),
                        [&](const FrontendKey& key) { return place(key) < 1; });
  return order;
}

}  // namespace

void CountShared(const FrontendKey& key, const Frontend& frontend, int64_t by,
                 SharedElements& shared) {
  if (frontend.vip) shared.Add(VipElement(key.ip), by);
  if (frontend.terminating) return;
  const ServicePortEntry& entry = *frontend.entry;
  if (entry.health_check_node_port != 0) {
    for (const SetEntry& half : PortElements(SetId::kHealth, entry.id.family,
                                             entry.health_check_node_port, uint8_t{IPPROTO_TCP}))
      shared.Add(half, by);
  }
  for (const Backend& backend : frontend.backends()) {
    if (backend.MayBeHere()) shared.Add(HairpinElement(backend.ip, backend.port, key.protocol), by);
  }
}

std::vector<SetEntry> OwnElements(const FrontendKey& key, const Frontend& frontend) {
  if (frontend.terminating) return {OwnedElement(key)};
  std::vector<SetEntry> elements;
  ForEachOwnElement({key, frontend.source, frontend.address}, *frontend.entry,
                    [&](const SetEntry& entry) { elements.push_back(entry); });
  std::sort(elements.begin(), elements.end());
  elements.erase(std::unique(elements.begin(), elements.end()), elements.end());
  return elements;
}

DesiredState MakeDesiredState(const ServiceModel& model, const DesiredFacts& facts) {
  DesiredState desired;
  const auto serves = [&](const ServicePortEntry& entry) { return facts.serves(entry.id.family); };
  desired.crowded = Crowded(model, facts.room, serves);
  desired.frontends = FrontendTable(facts.host, DnsCachePorts(model));
  for (const auto& [id, entry] : model.entries) {
    if (!serves(*entry)) continue;
    if (!desired.crowded.empty() && desired.crowded.contains({id.ns, id.name})) continue;
    desired.needs += NeedsOf(*entry);
    desired.frontends.Add(entry);
  }
  for (const auto& [key, frontend] : desired.frontends.all())
    CountShared(key, frontend, 1, desired.shared);
  desired.order = OrderOf(desired.frontends);
  desired.node_elements = NodeElements(model.node, facts);
  return desired;
}

}  // namespace pointsman::agent::ipvs
