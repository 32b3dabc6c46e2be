#pragma once

#include "e2e/control-plane/controllers/controllers.h"

namespace pointsman::e2e {

// Creates default/kubernetes (the first address of the service CIDR) and, with an advertise
// address, its EndpointSlice and Endpoints, or brings the latter to the present address.
void EnsureKubernetesService(Store& store, const Emulation& emulation,
                             const ControllerOptions& options);

}  // namespace pointsman::e2e
