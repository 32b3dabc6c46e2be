#include "node-agent/nftables/desired_table.h"

#include <algorithm>

namespace pointsman::agent::nft {

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
    AppendElements(*entry, desired.elements);
    CountShared(*entry, settings, 1, desired.shared);
  }
  AppendNodeElements(settings.family, model.node, desired.elements);
  for (const auto& [shared, uses] : desired.shared)
    desired.elements.push_back(ToElement(shared));
  // The model gives an address and port to one entry alone: no key is there twice.
  std::sort(desired.elements.begin(), desired.elements.end());

  CountClasses(desired.elements, 1, desired.classes);
  desired.chains = StaticChains(settings, model.node, guard);
  for (const auto& [traffic_class, uses] : desired.classes)
    desired.chains.push_back(ClassChain(settings, traffic_class));
  return desired;
}

}  // namespace pointsman::agent::nft
