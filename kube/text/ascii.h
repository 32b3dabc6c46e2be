// Letters of ASCII alone: schemes, host names and names of variables have no others (RFC 3986), and
// what is else in them stays as it is, whatever the locale.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace pointsman::text {

inline std::string ToLowerAscii(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

}  // namespace pointsman::text
