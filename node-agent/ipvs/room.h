// What all Services share in ipvs mode, and who does without when it is not enough.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "node-agent/model/service_model.h"

namespace pointsman::agent::ipvs {

// Of one Service port, or the sum of several.
struct Needs {
  // Virtual servers; a set has one element of each at most, but for its source ranges.
  uint64_t servers = 0;
  uint64_t sources = 0;   // elements of kSources
  uint64_t hairpins = 0;  // elements of kHairpin, without those that others share
  uint64_t destinations = 0;
  Needs& operator+=(const Needs& other);
  Needs& operator-=(const Needs& other);
};

// Calculated, not counted: it costs no more than the entry's size.
Needs NeedsOf(const ServicePortEntry& entry);

// How much there is, both families together. A set of the kernel takes twice as much, so that what
// comes has room before what goes is deleted.
struct Room {
  uint64_t servers = uint64_t{1} << 20;
  uint64_t sources = uint64_t{1} << 20;
  uint64_t hairpins = uint64_t{1} << 20;
  uint64_t destinations = uint64_t{1} << 22;  // 2 GB in the kernel
  bool Has(const Needs& needs) const;
};

using ServiceName = std::pair<std::string, std::string>;  // namespace and name

// The Services that are not served, since all of `model` would not fit into `room`, and why.
// `served` says which entries count. See fair_share.h for who they are.
std::map<ServiceName, std::string> Crowded(
    const ServiceModel& model, const Room& room,
    const std::function<bool(const ServicePortEntry&)>& served);

}  // namespace pointsman::agent::ipvs
