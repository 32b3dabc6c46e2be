// The gates of a rollout, and what they are held against, for a person.
#pragma once

#include <string>

#include "kube/pointsman/change_impact.h"
#include "kubectl-pointsman/rollout_view.h"

namespace pointsman::plugin {

// Each bound with the worst figure that a node of the rollout has measured so far; "" while no node
// has any. What has tripped is not in it: condition Degraded or RolledBack says that.
std::string GatesText(const RolloutView& view);

// What a change did to one node's traffic; "" if nothing was measured.
std::string ImpactText(const kube::ChangeImpact& impact);

}  // namespace pointsman::plugin
