// A cluster of three kernels moves from iptables to ipvs by `kubectl apply` while traffic flows.
#pragma once

#include "e2e/demo/stage.h"

namespace pointsman::e2e {

void AddNodesOfIptablesToIpvs(WorldOptions& options);
// Returns whether nothing was lost.
bool ShowIptablesToIpvs(Stage& stage);

}  // namespace pointsman::e2e
