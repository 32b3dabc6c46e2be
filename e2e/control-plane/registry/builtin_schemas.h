#pragma once

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

/// The OpenAPI v3 schema of a builtin kind, by the name used in builtin_schemas.cpp ("Service",
/// "EndpointSliceV1beta1"). Throws std::logic_error for an unknown name.
Json builtinSchema(const std::string& kind, const Emulation& emulation);

}  // namespace pointsman::e2e
