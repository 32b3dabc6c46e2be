#include "e2e/control-plane/schema/formats.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <re2/re2.h>

#include "kube/net/ip_address.h"

namespace pointsman::e2e::schema {
namespace {

using std::chrono::nanoseconds;

bool Full(std::string_view text, const RE2& pattern) {
  return RE2::FullMatch(re2::StringPiece(text.data(), text.size()), pattern);
}

struct Pattern {
  Pattern(std::string_view name, const char* text) : format(name), regex(text) {}
  std::string_view format;
  RE2 regex;
};

const std::vector<std::unique_ptr<Pattern>>& Patterns() {
  static const auto* const patterns = [] {
    auto* list = new std::vector<std::unique_ptr<Pattern>>();
    auto add = [list](std::string_view format, const char* regex) {
      list->push_back(std::make_unique<Pattern>(format, regex));
    };
    add("mac", R"((?i)(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?:(?:[:-][0-9a-f]{2}){2})?)");
    add("uuid", R"((?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})");
    add("uuid3", R"((?i)[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12})");
    add("uuid4", R"((?i)[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12})");
    add("uuid5", R"((?i)[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12})");
    add("uri", R"([A-Za-z][A-Za-z0-9+.-]*:[^\s]*|/[^\s]*)");
    add("email", R"([^\s@<>"]+@[A-Za-z0-9\[][A-Za-z0-9.:\]-]*)");
    add("hostname",
        R"([a-zA-Z0-9](?:[a-zA-Z0-9-]{0,62})(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,62}))*\.?)");
    add("byte", R"((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)");
    add("date", R"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))");
    add("hexcolor", R"(#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6}))");
    add("rgbcolor", R"(rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\))");
    add("bsonobjectid", R"([0-9a-fA-F]{24})");
    add("ssn", R"(\d{3}[- ]?\d{2}[- ]?\d{4})");
    add("isbn", R"((?:97[89][- ]?)?(?:\d[- ]?){9}[\dX])");
    add("isbn10", R"((?:\d[- ]?){9}[\dX])");
    add("isbn13", R"(97[89][- ]?(?:\d[- ]?){9}\d)");
    add("creditcard", R"((?:\d[- ]?){12,18}\d)");
    return list;
  }();
  return *patterns;
}

// "3 days", "2 weeks": the words strfmt's duration takes besides Go's own.
bool IsWordDuration(std::string_view text) {
  static const RE2& regex = *new RE2(
      R"((?i)(?:\s*\d+\s*(?:ns|nanos?|nanoseconds?|us|µs|micros?|microseconds?|ms|millis?|)"
      R"(milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?))+\s*)");
  return Full(text, regex);
}

constexpr std::string_view kLabelRule =
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
constexpr std::string_view kSubdomainRule =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

std::string Check(std::string_view text, const RE2& regex, size_t max, std::string_view rule) {
  if (text.size() > max) return "must be no more than " + std::to_string(max) + " characters";
  return Full(text, regex) ? "" : std::string(rule);
}

}  // namespace

std::string CheckDns1123Label(std::string_view text) {
  static const RE2& regex = *new RE2("[a-z0-9]([-a-z0-9]*[a-z0-9])?");
  return Check(text, regex, 63, kLabelRule);
}

std::string CheckDns1123Subdomain(std::string_view text) {
  static const RE2& regex =
      *new RE2(R"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)");
  return Check(text, regex, 253, kSubdomainRule);
}

std::optional<nanoseconds> ParseGoDuration(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text == "0") return nanoseconds{0};
  if (text.empty()) return std::nullopt;
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"ns", 1},   {"us", 1e3}, {"µs", 1e3}, {"μs", 1e3},
      {"ms", 1e6}, {"s", 1e9},  {"m", 60e9}, {"h", 3600e9},
  };
  long double total = 0;
  while (!text.empty()) {
    size_t end = text.find_first_not_of("0123456789.");
    std::string number(text.substr(0, end));
    if (end == std::string_view::npos || number.empty() || number == "." ||
        std::count(number.begin(), number.end(), '.') > 1) {
      return std::nullopt;
    }
    text.remove_prefix(end);
    std::string_view unit = text.substr(0, text.find_first_of("0123456789."));
    text.remove_prefix(unit.size());
    const auto* found = std::find_if(std::begin(kUnits), std::end(kUnits),
                                     [unit](const auto& u) { return u.first == unit; });
    if (found == std::end(kUnits)) return std::nullopt;
    total += std::stold(number) * found->second;
    if (total > 9.2e18L) return std::nullopt;
  }
  auto count = static_cast<int64_t>(total);
  return nanoseconds{negative ? -count : count};
}

namespace {

struct DateTime {
  std::chrono::sys_seconds seconds;
  nanoseconds fraction{0};
};

std::optional<DateTime> ReadDateTime(std::string_view text) {
  static const RE2& regex =
      *new RE2(R"((\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9})\d*)?)"
               R"((?:[Zz]|([+-])(\d{2}):(\d{2})))");
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  std::string fraction, sign, zone_hour, zone_minute;
  if (!RE2::FullMatch(re2::StringPiece(text.data(), text.size()), regex, &year, &month, &day, &hour,
                      &minute, &second, &fraction, &sign, &zone_hour, &zone_minute)) {
    return std::nullopt;
  }
  std::chrono::year_month_day date{std::chrono::year{year},
                                   std::chrono::month{static_cast<unsigned>(month)},
                                   std::chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok() || hour > 23 || minute > 59 || second > 59) return std::nullopt;
  DateTime time{std::chrono::sys_days{date} + std::chrono::hours{hour} +
                std::chrono::minutes{minute} + std::chrono::seconds{second}};
  if (!fraction.empty()) {
    fraction.resize(9, '0');
    time.fraction = nanoseconds{std::stoll(fraction)};
  }
  if (!sign.empty()) {
    auto offset =
        std::chrono::hours{std::stoi(zone_hour)} + std::chrono::minutes{std::stoi(zone_minute)};
    time.seconds += sign == "+" ? -offset : offset;
  }
  return time;
}

}  // namespace

std::optional<std::chrono::sys_time<nanoseconds>> ParseDateTime(std::string_view text) {
  using Time = std::chrono::sys_time<nanoseconds>;
  const std::optional<DateTime> time = ReadDateTime(text);
  // The last second of each end is not whole.
  if (!time || time->seconds <= std::chrono::ceil<std::chrono::seconds>(Time::min()) ||
      time->seconds >= std::chrono::floor<std::chrono::seconds>(Time::max())) {
    return std::nullopt;
  }
  return time->seconds + time->fraction;
}

bool HasFormat(std::string_view format, std::string_view text) {
  if (format == "ipv4" || format == "ipv6") {
    auto address = net::IpAddress::Parse(text);
    return address && address->is_v4() == (format == "ipv4");
  }
  if (format == "cidr") return net::IpPrefix::Parse(text).has_value();
  if (format == "date-time" || format == "datetime") return ReadDateTime(text).has_value();
  if (format == "duration") return ParseGoDuration(text).has_value() || IsWordDuration(text);
  if (format == "k8s-short-name") return CheckDns1123Label(text).empty();
  if (format == "k8s-long-name") return CheckDns1123Subdomain(text).empty();
  for (const auto& pattern : Patterns()) {
    if (pattern->format == format) return Full(text, pattern->regex);
  }
  return true;
}

}  // namespace pointsman::e2e::schema
