// "25%", as fields of ours have it.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace pointsman::kube {

// From 0 to 100, without a sign, a fraction or leading zeros; nullopt: it is none.
inline std::optional<int64_t> ParsePercent(std::string_view text) {
  int64_t percent = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), percent);
  if (parsed.ec != std::errc() || percent < 0 || percent > 100) return std::nullopt;
  if (text != std::to_string(percent) + "%") return std::nullopt;
  return percent;
}

}  // namespace pointsman::kube
