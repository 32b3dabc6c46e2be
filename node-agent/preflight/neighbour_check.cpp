#include "node-agent/preflight/neighbour_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent {

void AddNeighbours(const NeighbourReport& report, const std::vector<std::string>& unread,
                   kube::Mode mode, PreflightResult& result) {
  std::vector<std::string> warnings = report.warnings;
  if (!unread.empty()) {
    warnings.push_back(
        fmt::format("which other programs are at work on this node is not fully known: {}",
                    fmt::join(unread, "; ")));
  }
  const std::string refused =
      report.refusals.empty() ? std::string()
                              : fmt::format("refused beside what else is at work on this node: {}",
                                            fmt::join(report.refusals, "; "));
  if (!result.passed) {
    if (!refused.empty()) result.message += "; and it is " + refused;
  } else if (!refused.empty()) {
    result.passed = false;
    result.reason = kNeighbourRefused;
    result.message = fmt::format("mode {} is {}", kube::ToString(mode), refused);
  } else if (!warnings.empty()) {
    result.message +=
        fmt::format("{}{}", result.warnings.empty() ? "; but: " : "; ", fmt::join(warnings, "; "));
  }
  result.warnings.insert(result.warnings.end(), warnings.begin(), warnings.end());
}

void PassWhatRuns(kube::Mode mode, PreflightResult& result) {
  if (result.passed || result.reason != kNeighbourRefused) return;
  result.passed = true;
  result.reason = "PreflightPassed";
  result.warnings.push_back(result.message);
  result.message = fmt::format("mode {} serves here already and goes on; but: {}",
                               kube::ToString(mode), fmt::join(result.warnings, "; "));
}

}  // namespace pointsman::agent
