// Times as the API writes them: RFC 3339 in UTC. metav1.Time has seconds, metav1.MicroTime
// microseconds.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace pointsman::kube {

using TimePoint = std::chrono::sys_time<std::chrono::seconds>;

std::string FormatTime(TimePoint time);                                   // 2026-01-02T03:04:05Z
std::string FormatTime(std::chrono::system_clock::time_point time);       // cut to seconds
std::string FormatMicroTime(std::chrono::system_clock::time_point time);  // ….000006Z
std::string NowRfc3339();  // the wall clock, with seconds

// Accepts fractions of a second (cut off) and offsets ("+02:00"); nullopt for anything else
// and for what is not within the years 0 to 9999 in UTC: ParseTime(FormatTime(t)) == t.
std::optional<TimePoint> ParseTime(std::string_view text);

}  // namespace pointsman::kube
