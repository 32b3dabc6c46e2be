#pragma once

#include "e2e/control-plane/registry/controllers.h"

namespace pointsman::e2e {

/// Registers every builtin type that the emulated version serves.
void registerBuiltinTypes(Registry& registry, Store& store, const SchemaProvider& schemas,
                          const Emulation& emulation,
                          const std::function<void(ResourceType& services)>& installAllocation);

/// The checks of names: RFC 1123 label and subdomain, RFC 1035 label. Empty when valid, else the
/// text of a real API server.
std::string checkDns1123Label(std::string_view name);
std::string checkDns1123Subdomain(std::string_view name);
std::string checkDns1035Label(std::string_view name);
/// Label keys and values of metadata.labels or of a selector, annotations' keys.
void checkLabels(const Json& labels, const std::string& path, std::vector<FieldError>& errors);
std::string checkQualifiedName(std::string_view name);

}  // namespace pointsman::e2e
