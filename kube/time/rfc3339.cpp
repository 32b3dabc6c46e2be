#include "kube/time/rfc3339.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdio>

namespace pointsman::kube {

std::string FormatTime(TimePoint time) {
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(days);
  const std::chrono::hh_mm_ss clock(time - days);
  std::array<char, 48> text{};
  const int length = std::snprintf(
      text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()),
      static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
      static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
      static_cast<int>(clock.seconds().count()));
  return {text.data(), static_cast<size_t>(length)};
}

std::string FormatTime(std::chrono::system_clock::time_point time) {
  return FormatTime(std::chrono::floor<std::chrono::seconds>(time));
}

std::string FormatMicroTime(std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto micros = std::chrono::floor<std::chrono::microseconds>(time - whole).count();
  std::array<char, 16> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%06dZ", static_cast<int>(micros));
  std::string text = FormatTime(whole);
  text.replace(text.size() - 1, 1, fraction.data());
  return text;
}

std::string NowRfc3339() {
  return FormatTime(std::chrono::system_clock::now());
}

namespace {

// Takes exactly `digits` digits off the front of `text`.
std::optional<int> TakeNumber(std::string_view& text, size_t digits) {
  const std::string_view number = text.substr(0, digits);
  // Not a sign, which from_chars would take.
  if (number.size() < digits || !std::all_of(number.begin(), number.end(), [](unsigned char c) {
        return std::isdigit(c) != 0;
      })) {
    return std::nullopt;
  }
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + digits, value);
  if (error != std::errc() || end != text.data() + digits || value < 0) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

bool TakeCharacter(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<TimePoint> ParseTime(std::string_view text) {
  using std::chrono::day;
  using std::chrono::hours;
  using std::chrono::minutes;
  using std::chrono::month;
  using std::chrono::seconds;
  using std::chrono::year;
  std::array<int, 6> part{};
  constexpr std::array<std::string_view, 6> kAfter = {"-", "-", "Tt", ":", ":", ""};
  for (size_t i = 0; i < part.size(); ++i) {
    const auto value = TakeNumber(text, i == 0 ? 4 : 2);
    if (!value) return std::nullopt;
    part[i] = *value;
    if (!kAfter[i].empty() && !TakeCharacter(text, kAfter[i])) return std::nullopt;
  }
  if (TakeCharacter(text, ".")) {
    if (text.empty() || std::isdigit(static_cast<unsigned char>(text.front())) == 0) {
      return std::nullopt;
    }
    while (!text.empty() && std::isdigit(static_cast<unsigned char>(text.front())) != 0) {
      text.remove_prefix(1);
    }
  }
  minutes offset{0};
  if (!TakeCharacter(text, "Zz")) {
    const bool west = !text.empty() && text.front() == '-';
    if (!TakeCharacter(text, "+-")) return std::nullopt;
    const auto offset_hours = TakeNumber(text, 2);
    if (!offset_hours || !TakeCharacter(text, ":")) return std::nullopt;
    const auto offset_minutes = TakeNumber(text, 2);
    if (!offset_minutes) return std::nullopt;
    offset = hours(*offset_hours) + minutes(*offset_minutes);
    if (west) offset = -offset;
  }
  const std::chrono::year_month_day date(year(part[0]), month(static_cast<unsigned>(part[1])),
                                         day(static_cast<unsigned>(part[2])));
  if (!text.empty() || !date.ok() || part[3] > 23 || part[4] > 59 || part[5] > 60) {
    return std::nullopt;
  }
  const TimePoint time =
      std::chrono::sys_days(date) + hours(part[3]) + minutes(part[4]) + seconds(part[5]) - offset;
  // In UTC it may be of another year, and then it has no form in which it could be written.
  constexpr TimePoint kFirst = std::chrono::sys_days(year(0) / 1 / 1);
  constexpr TimePoint kEnd = std::chrono::sys_days(year(10000) / 1 / 1);
  if (time < kFirst || time >= kEnd) return std::nullopt;
  return time;
}

}  // namespace pointsman::kube
