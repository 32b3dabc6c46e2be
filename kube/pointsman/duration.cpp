#include "kube/pointsman/duration.h"

#include <array>
#include <cstdint>
#include <limits>

namespace pointsman::kube {
namespace {

struct Unit {
  std::string_view name;
  uint64_t nanoseconds;
};

// "µ" is written with U+00B5 (micro sign) or with U+03BC (Greek mu); both are in use.
constexpr std::array<Unit, 8> kUnits{{{"ns", 1},
                                      {"us", 1'000},
                                      {"\u00b5s", 1'000},
                                      {"\u03bcs", 1'000},
                                      {"ms", 1'000'000},
                                      {"s", 1'000'000'000},
                                      {"m", 60'000'000'000},
                                      {"h", 3'600'000'000'000}}};

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

// The largest magnitude: that of the most negative value.
constexpr uint64_t kMaxMagnitude = uint64_t{1} << 63;

bool MultiplyAdd(uint64_t& sum, uint64_t factor, uint64_t addend) {
  return !__builtin_mul_overflow(sum, factor, &sum) && !__builtin_add_overflow(sum, addend, &sum) &&
         sum <= kMaxMagnitude;
}

// Takes one "number unit" off the front of `text`.
std::optional<uint64_t> TakeTerm(std::string_view& text) {
  size_t at = 0;
  uint64_t whole = 0;
  for (; at < text.size() && IsDigit(text[at]); ++at) {
    if (!MultiplyAdd(whole, 10, static_cast<uint64_t>(text[at] - '0'))) return std::nullopt;
  }
  size_t digits = at;
  // The fraction is kept as fraction / scale. Digits beyond the 18th cannot be told apart from 0 in
  // nanoseconds of the largest unit that matters, and Go drops them too.
  uint64_t fraction = 0;
  uint64_t scale = 1;
  if (at < text.size() && text[at] == '.') {
    ++at;
    for (; at < text.size() && IsDigit(text[at]); ++at, ++digits) {
      if (scale >= 1'000'000'000'000'000'000) continue;
      fraction = fraction * 10 + static_cast<uint64_t>(text[at] - '0');
      scale *= 10;
    }
  }
  if (digits == 0) return std::nullopt;
  size_t unit_end = at;
  while (unit_end < text.size() && text[unit_end] != '.' && !IsDigit(text[unit_end]))
    ++unit_end;
  const std::string_view name = text.substr(at, unit_end - at);
  for (const Unit& unit : kUnits) {
    if (unit.name != name) continue;
    const auto part =
        static_cast<uint64_t>(static_cast<unsigned __int128>(fraction) * unit.nanoseconds / scale);
    if (!MultiplyAdd(whole, unit.nanoseconds, part)) return std::nullopt;
    text.remove_prefix(unit_end);
    return whole;
  }
  return std::nullopt;
}

// Writes magnitude / 10^digits without trailing zeros: (1500, 3) is "1.5".
std::string Decimal(uint64_t magnitude, int digits) {
  std::string text = std::to_string(magnitude);
  const auto places = static_cast<size_t>(digits);
  if (text.size() <= places) text.insert(0, places + 1 - text.size(), '0');
  text.insert(text.size() - places, ".");
  while (text.back() == '0')
    text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

std::optional<std::chrono::nanoseconds> ParseDuration(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text == "0") return std::chrono::nanoseconds(0);
  if (text.empty()) return std::nullopt;
  uint64_t sum = 0;
  while (!text.empty()) {
    const auto term = TakeTerm(text);
    if (!term || !MultiplyAdd(sum, 1, *term)) return std::nullopt;
  }
  if (negative) return std::chrono::nanoseconds(static_cast<int64_t>(-sum));
  if (sum == kMaxMagnitude) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<int64_t>(sum));
}

std::string FormatDuration(std::chrono::nanoseconds duration) {
  const int64_t count = duration.count();
  if (count == 0) return "0s";
  const uint64_t magnitude =
      count < 0 ? -static_cast<uint64_t>(count) : static_cast<uint64_t>(count);
  const std::string sign = count < 0 ? "-" : "";
  if (magnitude < 1'000) return sign + std::to_string(magnitude) + "ns";
  if (magnitude < 1'000'000) return sign + Decimal(magnitude, 3) + "\u00b5s";
  if (magnitude < 1'000'000'000) return sign + Decimal(magnitude, 6) + "ms";
  constexpr uint64_t kMinute = 60'000'000'000;
  const uint64_t minutes = magnitude / kMinute;
  std::string text = sign;
  if (minutes >= 60) text += std::to_string(minutes / 60) + "h";
  if (minutes > 0) text += std::to_string(minutes % 60) + "m";
  return text + Decimal(magnitude % kMinute, 9) + "s";
}

}  // namespace pointsman::kube
