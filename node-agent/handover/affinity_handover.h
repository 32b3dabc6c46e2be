// sessionAffinity outlives a handover. Where that fails, clients are rebalanced, which is no reason
// to stay in the old mode.
#pragma once

#include <vector>

#include "node-agent/dataplane/client_binding.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// The clients that `from` has bound; none if it cannot say, which is logged.
std::vector<ClientBinding> ReadBindings(Dataplane& from, const ServiceModel& model);

// Binds them in `to`, into which `model` has been written; logs how many.
void WriteBindings(Dataplane& to, const ServiceModel& model,
                   const std::vector<ClientBinding>& bindings);

}  // namespace pointsman::agent
