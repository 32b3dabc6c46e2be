// Removal of fields that a structural schema does not specify.
#pragma once

#include <string>
#include <vector>

#include "e2e/control-plane/schema/structural.h"

namespace pointsman::e2e::schema {

// Removes what `schema` does not specify from `object` (a whole custom resource: apiVersion, kind
// and metadata are always known) and returns the paths of what was removed, in the form of the
// server's strict-decoding errors: `spec.ports[0].x`. Fields below
// x-kubernetes-preserve-unknown-fields stay; an embedded resource's type and metadata stay.
std::vector<std::string> Prune(Json& object, const Structural& schema);

}  // namespace pointsman::e2e::schema
