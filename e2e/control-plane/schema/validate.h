// Validation of a custom resource against its structural schema.
#pragma once

#include <string>

#include "e2e/control-plane/schema/structural.h"

namespace pointsman::e2e::schema {

// Everything in `object` that breaks `schema`, in the server's words, ordered as the server
// orders it (by field, depth first): types, bounds, formats, required fields, junctors, and the
// uniqueness of list sets and list-map keys. Not the CEL rules: see CheckRules.
// `path` is that of `object`: empty for a whole resource.
FieldErrors Validate(const Json& object, const Structural& schema, const std::string& path = "");

// The x-kubernetes-validations rules. `old`: the stored object on update, else null; rules that
// name oldSelf run only where there is an old value (optionalOldSelf excepted). The cost of all
// rules together is bounded as in apiextensions; what exceeds it is an error.
FieldErrors CheckRules(const Json& object, const Json* old, const Structural& schema);

}  // namespace pointsman::e2e::schema
