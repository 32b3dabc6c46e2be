#include "node-agent/dataplane/route_localnet.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

constexpr std::string_view kGuard = "pointsman: guard of route_localnet";
constexpr std::string_view kMark = "pointsman: guard of route_localnet, set by pointsman";
// Modes iptables and nftables once had a text each; an upgrade meets them in the kernel.
constexpr std::string_view kMarks[] = {
    kMark, "pointsman: guard of route_localnet, which pointsman switched on"};

void AddProblem(const SysctlResult& written, SyncResult& result) {
  if (!written.ok())
    result.problems.push_back({fmt::format("sysctl {}", written.name), written.error});
}

}  // namespace

bool RouteLocalnet::IsMark(std::string_view rule) {
  return std::any_of(std::begin(kMarks), std::end(kMarks), [rule](std::string_view mark) {
    return rule.find(mark) != std::string_view::npos;
  });
}

std::string_view RouteLocalnet::guard_comment() const {
  if (!wanted_) return {};
  return ours_ ? kMark : kGuard;
}

void RouteLocalnet::PrepareGuard(SyncResult& result) {
  if (!wanted_) return Restore(result);
  if (ours_) return;
  std::string error;
  const std::optional<std::string> now = ReadSysctl(kName, &error);
  if (!now) result.problems.push_back({fmt::format("sysctl {}", kName), error});
  ours_ = now == "0";
}

void RouteLocalnet::SwitchOn(SyncResult& result) const {
  if (!wanted_) return;
  const SysctlResult set = WriteSysctl(kName, "1");
  AddProblem(set, result);
  if (set.changed) ++result.kernel_writes;
}

void RouteLocalnet::Restore(SyncResult& result) {
  if (!std::exchange(ours_, false)) return;
  AddProblem(WriteSysctl(kName, "0"), result);
}

}  // namespace pointsman::agent
