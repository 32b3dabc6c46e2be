// A cluster with kube-proxy's rules moves to ipvs, on to nftables and back to kube-proxy by
// kubectl, while traffic flows.
#pragma once

#include "e2e/demo/stage.h"

namespace pointsman::e2e {

void AddNodesOfFromKubeProxy(WorldOptions& options);
// Returns whether nothing was lost.
bool ShowFromKubeProxy(Stage& stage);

}  // namespace pointsman::e2e
