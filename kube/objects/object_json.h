// Any object of the API as a DOM, without what nobody here reads.
#pragma once

#include <initializer_list>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pointsman::kube {

// Of a NodeProxy with its agent's status the managed fields are more than half; as nlohmann nodes a
// byte of them costs eight.
inline constexpr std::string_view kManagedFields = "metadata.managedFields";

// `skip`: paths of members ("status.kernel") that are not built. Throws std::invalid_argument for
// text that is not one JSON object.
nlohmann::json ParseObject(std::string_view json,
                           std::initializer_list<std::string_view> skip = {kManagedFields});

}  // namespace pointsman::kube
