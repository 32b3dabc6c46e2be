// Members of objects from the API, which may be of any kind.
#pragma once

#include <nlohmann/json.hpp>

namespace pointsman::op {

// The member, null if there is none or `object` is no object.
inline nlohmann::json Member(const nlohmann::json& object, const char* name) {
  return object.is_object() ? object.value(name, nlohmann::json()) : nlohmann::json();
}

}  // namespace pointsman::op
