#include "operator/runtime/newer_objects.h"

#include <charconv>
#include <optional>

namespace pointsman::op {
namespace {

std::optional<uint64_t> Number(const std::string& text) {
  uint64_t number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number);
  if (error != std::errc() || end != last) return std::nullopt;
  return number;
}

}  // namespace

bool IsOlderVersion(const std::string& a, const std::string& b) {
  const auto left = Number(a);
  const auto right = Number(b);
  return left && right && *left < *right;
}

}  // namespace pointsman::op
