// spec.rollout.gates: a node's figures against the bounds. What a node writes is not believed
// further than it makes sense: figures that contradict each other are none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kube/pointsman/change_impact.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/pointsman/rollout_gates.h"

namespace pointsman::op {

// The first gate that the figures are beyond, without the node's name; nullopt: none. `services`:
// of the node.
std::optional<kube::TrippedGate> Trips(const kube::ChangeImpact& impact, int64_t services,
                                       const kube::RolloutGates& gates);

// For a person: which figure is beyond which bound.
std::string Describe(const kube::TrippedGate& tripped);

// Whether connections that drain there can still become more cut ones than the bound allows. Those
// of the other modes are connection tracking's, and go on.
bool MayYetCut(const kube::NodeProxyStatus& status, const kube::RolloutGates& gates);

}  // namespace pointsman::op
