#include "kube/client/kube_time.h"

#include <cstdio>
#include <ctime>

namespace pointsman::kube {
namespace {

std::string UpToSeconds(std::chrono::system_clock::time_point time) {
  // From floored seconds: to_time_t may round.
  const auto since_epoch = std::chrono::floor<std::chrono::seconds>(time.time_since_epoch());
  const time_t seconds = since_epoch.count();
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return {text, size};
}

}  // namespace

std::string FormatTime(std::chrono::system_clock::time_point time) {
  return UpToSeconds(time) + "Z";
}

std::string FormatMicroTime(std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto micros = std::chrono::floor<std::chrono::microseconds>(time - whole).count();
  char fraction[16];
  std::snprintf(fraction, sizeof fraction, ".%06dZ", static_cast<int>(micros));
  return UpToSeconds(time) + fraction;
}

}  // namespace pointsman::kube
