// What our table is to hold: a pure function of the model.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "node-agent/dataplane/use_counts.h"
#include "node-agent/model/service_model.h"
#include "node-agent/nftables/elements.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/nftables/shared_elements.h"

namespace pointsman::agent::nft {

// How many elements name each.
using ClassUses = UseCounts<std::map<TrafficClass, int64_t>>;

// Adds `by` for each of `elements` that names one.
void CountClasses(std::span<const Element> elements, int64_t by, ClassUses& uses);

struct DesiredTable {
  std::vector<Chain> chains;      // in the order in which they can be made
  std::vector<Element> elements;  // sorted, each key once; they point into the model
  ClassUses classes;
  SharedUses shared;

  std::span<const Element> ElementsOf(SetId set) const;
};

// `guard`: see StaticChains.
DesiredTable MakeDesiredTable(const ServiceModel& model, const LayoutSettings& settings,
                              std::string_view guard);

}  // namespace pointsman::agent::nft
