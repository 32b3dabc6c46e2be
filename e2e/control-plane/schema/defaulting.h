// Defaults of a structural schema, filled in as apiextensions does it.
#pragma once

#include "e2e/control-plane/schema/structural.h"

namespace pointsman::e2e::schema {

// Sets every absent field that has a default. A null where the schema is not nullable counts as
// absent when there is a default (apiextensions: "defaulting and nullable"); it is otherwise left
// for the validation to refuse. Below a default that was filled in, defaults apply too.
void ApplyDefaults(Json& object, const Structural& schema);

}  // namespace pointsman::e2e::schema
