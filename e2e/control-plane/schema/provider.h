// A schema made ready for use, as the API server holds one per version of a CRD and per builtin
// type.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"
#include "e2e/control-plane/schema/structural.h"

namespace pointsman::e2e::schema {

// Everything the server refuses in an openAPIV3Schema: it is not structural, a rule does not
// compile, a default does not fit its own schema. `path` is that of the schema in the CRD.
FieldErrors CheckSchema(const Json& open_api_v3_schema, const std::string& path,
                        int kubernetes_minor);

// For a schema that CheckSchema has nothing against, or one of a builtin type (which need not be
// structural: it may, for example, say more of metadata). Throws std::invalid_argument when a
// pattern or a rule does not compile.
ObjectSchemaPtr CompileSchema(const Json& open_api_v3_schema, int kubernetes_minor);

// In the form of the registry.
std::vector<e2e::FieldError> ToRegistry(const FieldErrors& errors);

}  // namespace pointsman::e2e::schema

namespace pointsman::e2e {

std::unique_ptr<SchemaProvider> MakeSchemaProvider(const Emulation& emulation);

}  // namespace pointsman::e2e
