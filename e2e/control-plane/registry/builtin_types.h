#pragma once

#include <functional>

#include "e2e/control-plane/registry/controllers.h"

namespace pointsman::e2e {

/// Registers every builtin type that the emulated version serves.
void registerBuiltinTypes(Registry& registry, Store& store, const SchemaProvider& schemas,
                          const Emulation& emulation,
                          const std::function<void(ResourceType& services)>& installAllocation);

}  // namespace pointsman::e2e
