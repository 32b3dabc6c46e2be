// Where a Pod may run: what the scheduler and the DaemonSet controller ask of a Node. Pure
// functions.
#pragma once

#include <string>

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// Its nodeSelector and required node affinity select the node.
bool SelectsNode(const Json& pod_spec, const Json& node);
// The one node that its required node affinity asks for by name, as that of a DaemonSet's Pod does;
// "": it asks for none so.
std::string NodeAskedFor(const Json& pod_spec);
// The first taint with effect NoSchedule or NoExecute that none of them tolerates, or null.
Json UntoleratedTaint(const Json& tolerations, const Json& node);

}  // namespace pointsman::e2e
