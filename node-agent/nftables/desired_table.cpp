#include "node-agent/nftables/desired_table.h"

#include <algorithm>
#include <string>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

namespace pointsman::agent::nft {
namespace {

// Sorts `elements` and leaves each key once. Of two that claim an address, the same one wins each
// time.
void Arbitrate(std::vector<Element>& elements, ServiceRefusals& refusals) {
  std::sort(elements.begin(), elements.end(), [](const Element& a, const Element& b) {
    return SameKey(a, b) && a.entry != nullptr && b.entry != nullptr ? a.entry->id < b.entry->id
                                                                     : a < b;
  });
  const auto duplicate = [&refusals](const Element& a, const Element& b) {
    if (!SameKey(a, b)) return false;
    if (a.entry != b.entry) {
      const std::string what = fmt::format("has an address or node port that is {}'s", OwnerOf(a));
      if (b.entry != nullptr) {
        refusals.Add(b.entry->id, what);
      } else {
        spdlog::warn("nftables: {} {}", OwnerOf(b), what);
      }
    }
    return true;
  };
  elements.erase(std::unique(elements.begin(), elements.end(), duplicate), elements.end());
}

}  // namespace

void CountClasses(std::span<const Element> elements, int64_t by, ClassUses& uses) {
  for (const Element& element : elements) {
    TrafficClass traffic_class;
    if (ClassOf(element, traffic_class)) uses.Add(traffic_class, by);
  }
}

std::span<const Element> DesiredTable::ElementsOf(SetId set) const {
  const auto less = [](const Element& element, SetId id) { return element.set < id; };
  const auto more = [](SetId id, const Element& element) { return id < element.set; };
  const auto begin = std::lower_bound(elements.begin(), elements.end(), set, less);
  return {begin, std::upper_bound(begin, elements.end(), set, more)};
}

DesiredTable MakeDesiredTable(const ServiceModel& model, const LayoutSettings& settings,
                              std::string_view guard) {
  DesiredTable desired;
  desired.elements.reserve(model.entries.size() + model.endpoint_count);
  for (const auto& [id, entry] : model.entries) {
    if (id.family != settings.family) continue;
    AppendElements(*entry, model.node, desired.elements);
    CountShared(*entry, settings, 1, desired.shared);
  }
  AppendNodeElements(settings, model.node, desired.elements);
  for (const auto& [shared, uses] : desired.shared)
    desired.elements.push_back(ToElement(shared));
  Arbitrate(desired.elements, desired.refusals);

  CountClasses(desired.elements, 1, desired.classes);
  desired.chains = StaticChains(settings, model.node, guard);
  for (const auto& [traffic_class, uses] : desired.classes)
    desired.chains.push_back(ClassChain(settings, traffic_class));
  return desired;
}

}  // namespace pointsman::agent::nft
