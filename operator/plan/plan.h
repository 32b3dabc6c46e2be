// What to do next, as a function of what the API says: no IO, no clock, and no memory but of when
// something was seen (sightings.h). Killing the operator between any two writes loses nothing, for
// the next call starts from the same objects.
//
// What nodes write (NodeProxy.status) is taken for what it is: a node can say anything of itself,
// and only of itself. No number, time or mode of it is used unchecked.
#pragma once

#include "operator/plan/actions.h"
#include "operator/plan/input.h"
#include "operator/plan/sightings.h"

namespace pointsman::op {

// Costs O(nodes · configurations) at most, and O(nodes · log nodes) for each configuration.
// `sightings`: empty when this operator begins to lead, and then kept from pass to pass.
Plan MakePlan(const PlanInput& input, Sightings& sightings);

}  // namespace pointsman::op
