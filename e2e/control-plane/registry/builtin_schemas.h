#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

// The OpenAPI v3 schema of a builtin kind, by the name used in builtin_schemas.cpp ("Service",
// "EndpointSliceV1beta1"). Throws std::logic_error for an unknown name.
Json BuiltinSchema(const std::string& kind, const Emulation& emulation);

// One field of a builtin type as builtin_schemas.cpp writes it down.
struct BuiltinField {
  std::string name;
  std::string type;  // in the notation of builtin_schemas.cpp
  bool required = false;
  int since = 0;              // the minor version that introduced it
  std::vector<int> protobuf;  // field numbers, the outermost message first; may be empty
};
// Throws std::logic_error for an unknown name.
const std::vector<BuiltinField>& BuiltinFields(std::string_view name);
bool HasBuiltin(std::string_view name);

}  // namespace pointsman::e2e
