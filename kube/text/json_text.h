// JSON as it is sent, logged and hashed.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace pointsman::text {

// `value` on one line. Never throws for what is in it: nlohmann's own dump() does for a string that
// is not UTF-8 (type_error 316), and text from a kernel, a tool or a file may be anything. Each
// invalid byte becomes U+FFFD. All that is written as JSON goes through here.
inline std::string JsonText(const nlohmann::json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace pointsman::text
