// Validation of what users write, complete: also for servers that do not enforce the schema.
#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "kube/pointsman/field_error.h"

namespace pointsman::kube {

// `spec` is a ProxyConfiguration's spec; paths begin with "spec". Unknown fields are errors, as
// they are for `kubectl apply` (field validation Strict): a typo must not pass for a setting.
std::vector<FieldError> ValidateProxyConfiguration(const nlohmann::json& spec);

}  // namespace pointsman::kube
