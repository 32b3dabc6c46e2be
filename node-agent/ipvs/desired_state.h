// What the kernel is to hold in ipvs mode: functions of the model and of a few facts of the node,
// without a look at the kernel or a change of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "node-agent/dataplane/use_counts.h"
#include "node-agent/ipvs/frontend_table.h"
#include "node-agent/ipvs/host_addresses.h"
#include "node-agent/ipvs/room.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent::ipvs {

// The elements that several frontends may need: of kVip, kHairpin and kHealth.
using SharedElements = UseCounts<std::unordered_map<SetEntry, int64_t, SetEntryHash>>;

// Adds `by` for each that the frontend needs.
void CountShared(const FrontendKey& key, const Frontend& frontend, int64_t by,
                 SharedElements& shared);
// The elements that it alone needs, sorted.
std::vector<SetEntry> OwnElements(const FrontendKey& key, const Frontend& frontend);

// What decides beside the model; all of it outlives the call.
struct DesiredFacts {
  const HostAddresses& host;
  const Room& room;
  std::function<bool(net::Family)> serves;  // which families are
};

struct DesiredState {
  FrontendTable frontends;
  // The order in which they are written: the default/kubernetes Service first, the others by
  // address, but what this node and its pods are sent to before what sends them there.
  std::vector<FrontendKey> order;
  SharedElements shared;
  std::vector<SetEntry> node_elements;
  Needs needs;
  std::map<ServiceName, std::string> crowded;  // the Services that are left out, and why
};

DesiredState MakeDesiredState(const ServiceModel& model, const DesiredFacts& facts);

}  // namespace pointsman::agent::ipvs
