// The clients that sessionAffinity binds, read from and written into map `affinity` in the kernel.
#pragma once

#include <cstddef>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/nf_tables/connection.h"

namespace pointsman::agent::nft {

// Those of `family` that are bound to Services in `model`, at most `most`. Looks at kMostBindings
// elements at most. Throws std::system_error.
std::vector<ClientBinding> ReadAffinity(net::Family family, const ServiceModel& model, size_t most);

// Binds those of `bindings` that are of `family`; one that is bound already stays where it is,
// unless its Service may not lead there any more. Clients that could not be bound are a problem in
// the result. Throws std::system_error when a socket fails.
SyncResult WriteAffinity(net::Family family, const ServiceModel& model,
                         const std::vector<ClientBinding>& bindings, Connection& connection);

}  // namespace pointsman::agent::nft
