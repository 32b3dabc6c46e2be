#include "e2e/control-plane/base/api_time.h"

#include <cstdint>
#include <cstdio>
#include <ctime>

namespace pointsman::e2e {

std::string FormatTime(std::chrono::system_clock::time_point time) {
  const std::time_t t = std::chrono::system_clock::to_time_t(time);
  std::tm tm{};
  gmtime_r(&t, &tm);
  char text[32];
  const std::size_t n = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
  return {text, n};
}

std::optional<std::chrono::system_clock::time_point> ParseTime(std::string_view text) {
  const std::string copy(text);
  std::tm tm{};
  const char* rest = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &tm);
  if (rest == nullptr) return std::nullopt;
  std::chrono::system_clock::time_point time = std::chrono::system_clock::from_time_t(timegm(&tm));
  if (*rest == '.') {
    ++rest;
    std::int64_t scale = 100000000;
    std::int64_t nanos = 0;
    while (*rest >= '0' && *rest <= '9') {
      nanos += (*rest++ - '0') * scale;
      scale /= 10;
    }
    time += std::chrono::duration_cast<std::chrono::system_clock::duration>(
        std::chrono::nanoseconds(nanos));
  }
  if (*rest == 'Z' || *rest == 'z') return rest[1] == 0 ? std::optional(time) : std::nullopt;
  int hours = 0;
  int minutes = 0;
  char sign = 0;
  int used = 0;
  if (sscanf(rest, "%c%2d:%2d%n", &sign, &hours, &minutes, &used) != 3 || rest[used] != 0 ||
      (sign != '+' && sign != '-')) {
    return std::nullopt;
  }
  const auto offset = std::chrono::minutes(hours * 60 + minutes);
  return sign == '+' ? time - offset : time + offset;
}

std::string HumanDuration(std::chrono::seconds age) {
  // The thresholds of k8s.io/apimachinery/pkg/util/duration.HumanDuration.
  const std::int64_t s = age.count();
  const auto pair = [](std::int64_t a, char unit_a, std::int64_t b, char unit_b) {
    std::string text = std::to_string(a) + unit_a;
    if (b != 0) text += std::to_string(b) + unit_b;
    return text;
  };
  if (s < -1) return "<invalid>";
  if (s < 0) return "0s";
  if (s < 120) return std::to_string(s) + "s";
  const std::int64_t m = s / 60;
  if (m < 10) return pair(m, 'm', s % 60, 's');
  if (m < 180) return std::to_string(m) + "m";
  const std::int64_t h = s / 3600;
  if (h < 8) return pair(h, 'h', m % 60, 'm');
  if (h < 48) return std::to_string(h) + "h";
  const std::int64_t d = h / 24;
  if (h < 192) return pair(d, 'd', h % 24, 'h');
  if (d < 730) return std::to_string(d) + "d";
  if (d < 2920) return pair(d / 365, 'y', d % 365, 'd');
  return std::to_string(d / 365) + "y";
}

std::string AgeOf(const Json& object, const char* field,
                  std::chrono::system_clock::time_point now) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_string()) return "<unknown>";
  const auto time = ParseTime(found->get<std::string>());
  if (!time) return "<unknown>";
  return HumanDuration(std::chrono::duration_cast<std::chrono::seconds>(now - *time));
}

}  // namespace pointsman::e2e
