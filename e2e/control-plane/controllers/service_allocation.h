// Cluster IPs, node ports and health check node ports of Services.
#pragma once

#include "e2e/control-plane/controllers/controllers.h"

namespace pointsman::e2e {

// Sets the hooks of the services type (allocate, abandon, after_write) before it is registered, so
// that cluster IPs, node ports and health check node ports come from `options`. State is taken
// from the store when it is called.
void InstallServiceAllocation(ResourceType& services, Store& store,
                              const ControllerOptions& options);

}  // namespace pointsman::e2e
