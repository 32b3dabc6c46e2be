// metav1.Time as text, and ages as kubectl prints them.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// RFC 3339 in UTC, of seconds.
std::string FormatTime(std::chrono::system_clock::time_point time);
// Of an RFC 3339 time; nullopt when malformed.
std::optional<std::chrono::system_clock::time_point> ParseTime(std::string_view text);
// "5s", "3m20s", "47h", "12d": an age as kubectl prints it.
std::string HumanDuration(std::chrono::seconds age);
// The age of the RFC 3339 time at `field` of `object`; "<unknown>" without one.
std::string AgeOf(const Json& object, const char* field, std::chrono::system_clock::time_point now);

}  // namespace pointsman::e2e
