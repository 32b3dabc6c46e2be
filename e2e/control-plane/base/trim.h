#pragma once

#include <string_view>

namespace pointsman::e2e {

// Without the blanks and tabs at both ends.
inline std::string_view Trim(std::string_view s) {
  constexpr std::string_view kBlanks = " \t";
  const auto first = s.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(kBlanks) - first + 1);
}

}  // namespace pointsman::e2e
