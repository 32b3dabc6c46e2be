// metav1.Time and metav1.MicroTime as the API server reads and writes them: RFC 3339 in UTC.
#pragma once

#include <chrono>
#include <string>

namespace pointsman::kube {

std::string FormatTime(std::chrono::system_clock::time_point time);       // 2026-01-02T03:04:05Z
std::string FormatMicroTime(std::chrono::system_clock::time_point time);  // ….000006Z

}  // namespace pointsman::kube
