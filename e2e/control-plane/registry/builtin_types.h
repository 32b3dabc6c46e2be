#pragma once

#include <functional>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

// Registers every builtin type that the emulated version serves.
void RegisterBuiltinTypes(Registry& registry, Store& store, const SchemaProvider& schemas,
                          const Emulation& emulation,
                          const std::function<void(ResourceType& services)>& install_allocation);

}  // namespace pointsman::e2e
