#include "kube/pointsman/status_bounds.h"

#include <algorithm>
#include <limits>
#include <set>

#include "kube/pointsman/limits.h"
#include "kube/pointsman/mode.h"
#include "kube/text/text.h"
#include "kube/time/rfc3339.h"

namespace pointsman::kube {
namespace {

void KeepTo(size_t max_size, std::string& text) {
  text = text::Message(text, max_size);
}

void KeepTo(int64_t max, int64_t& number) {
  number = std::clamp<int64_t>(number, 0, max);
}

// The key of a list map is there once.
template <typename T, typename Key>
void KeepEachOnce(std::vector<T>& list, Key key) {
  std::set<std::string> seen;
  std::erase_if(list, [&](const T& item) { return !seen.insert(key(item)).second; });
}

template <typename T>
void KeepFirst(size_t max, std::vector<T>& list) {
  if (list.size() > max) list.erase(list.begin() + static_cast<ptrdiff_t>(max), list.end());
}

void KeepToSchema(NeighbourStatus& neighbour) {
  KeepTo(limits::kMaxNeighbourText, neighbour.name);
  KeepTo(limits::kMaxNeighbourText, neighbour.kind);
  KeepTo(limits::kMaxNeighbourMessage, neighbour.message);
  // There are only so many modes, and as many words for how they get along.
  static const std::set<std::string, std::less<>> kLevels = {"Fine", "Warning", "Refused",
                                                             "Accepted"};
  std::erase_if(neighbour.modes, [](const auto& mode) {
    return !ParseMode(mode.first) || !kLevels.contains(mode.second);
  });
}

void KeepToSchema(ModePreflight& preflight) {
  KeepTo(limits::kMaxModeText, preflight.mode);
  KeepTo(limits::kMaxPreflightReason, preflight.reason);
  KeepTo(limits::kMaxPreflightMessage, preflight.message);
}

void KeepToSchema(std::vector<Condition>& conditions) {
  std::erase_if(conditions, [](const Condition& condition) { return condition.type.empty(); });
  for (Condition& condition : conditions)
    KeepToSchema(condition);
  KeepEachOnce(conditions, [](const Condition& condition) { return condition.type; });
  KeepFirst(limits::kMaxConditions, conditions);
}

}  // namespace

void KeepToSchema(NodeProxyStatus& status) {
  KeepTo(std::numeric_limits<int64_t>::max(), status.observed_generation);
  KeepTo(limits::kMaxRevision, status.observed_revision);
  KeepTo(limits::kMaxRevision, status.prepared_revision);
  for (int64_t* count : {&status.services, &status.endpoints, &status.draining_connections})
    KeepTo(limits::kMaxCount, *count);
  KeepTo(limits::kMaxModeText, status.active_mode);
  KeepTo(limits::kMaxModeText, status.draining_mode);
  KeepTo(limits::kMaxKernelRelease, status.kernel_release);
  KeepTo(limits::kMaxAgentVersion, status.agent_version);
  for (ModuleStatus& module : status.modules) {
    KeepTo(limits::kMaxModuleText, module.name);
    KeepTo(limits::kMaxModuleState, module.state);
  }
  KeepEachOnce(status.modules, [](const ModuleStatus& module) { return module.name; });
  KeepFirst(limits::kMaxModules, status.modules);
  for (SysctlStatus& sysctl : status.sysctls) {
    KeepTo(limits::kMaxSysctlText, sysctl.name);
    KeepTo(limits::kMaxSysctlText, sysctl.value);
  }
  KeepEachOnce(status.sysctls, [](const SysctlStatus& sysctl) { return sysctl.name; });
  KeepFirst(limits::kMaxSysctls, status.sysctls);
  for (NeighbourStatus& neighbour : status.neighbours)
    KeepToSchema(neighbour);
  KeepEachOnce(status.neighbours, [](const NeighbourStatus& neighbour) { return neighbour.name; });
  KeepFirst(limits::kMaxNeighbours, status.neighbours);
  for (ModePreflight& preflight : status.preflights)
    KeepToSchema(preflight);
  KeepEachOnce(status.preflights, [](const ModePreflight& preflight) { return preflight.mode; });
  KeepFirst(limits::kMaxPreflights, status.preflights);
  if (!ParseTime(status.last_sync)) status.last_sync.clear();
  if (status.candidate) {
    KeepTo(limits::kMaxRevision, status.candidate->revision);
    KeepTo(limits::kMaxModeText, status.candidate->mode);
    status.candidate->message =
        text::Message(status.candidate->message, limits::kMaxConditionMessage);
  }
  if (status.impact) KeepToSchema(*status.impact);
  if (status.kube_proxy) {
    KeepTo(limits::kMaxModeText, status.kube_proxy->state);
    status.kube_proxy->message =
        text::Message(status.kube_proxy->message, limits::kMaxConditionMessage);
  }
  KeepToSchema(status.conditions);
}

void KeepToSchema(ProxyConfigurationStatus& status) {
  constexpr int64_t kMaxNodes = std::numeric_limits<int32_t>::max();
  KeepTo(std::numeric_limits<int64_t>::max(), status.observed_generation);
  KeepTo(limits::kMaxRevision, status.current_revision);
  KeepTo(limits::kMaxRevision, status.update_revision);
  for (int64_t* count : {&status.nodes.desired, &status.nodes.updated, &status.nodes.ready,
                         &status.nodes.fallback, &status.nodes.degraded}) {
    KeepTo(kMaxNodes, *count);
  }
  KeepTo(limits::kMaxPhase, status.phase);
  // There are only so many modes; what else a node says it runs is not counted.
  std::erase_if(status.modes, [](const auto& mode) { return !ParseMode(mode.first); });
  for (auto& [mode, count] : status.modes)
    KeepTo(kMaxNodes, count);
  for (TrippedGate& tripped : status.tripped_gates) {
    KeepTo(limits::kMaxGateText, tripped.gate);
    KeepTo(limits::kMaxGateText, tripped.node);
    KeepTo(limits::kMaxGateText, tripped.figure);
    KeepTo(limits::kMaxGateText, tripped.bound);
    KeepTo(limits::kMaxRevision, tripped.revision);
  }
  KeepFirst(limits::kMaxTrippedGates, status.tripped_gates);
  KeepToSchema(status.conditions);
}

void KeepRoomFor(std::span<const std::string_view> own, std::vector<Condition>& conditions) {
  const size_t room = limits::kMaxConditions - std::min(own.size(), limits::kMaxConditions);
  size_t others = 0;
  std::erase_if(conditions, [&](const Condition& condition) {
    return std::find(own.begin(), own.end(), condition.type) == own.end() && ++others > room;
  });
}

NodeProxyStatus WithoutMessages(NodeProxyStatus status, std::string_view instead) {
  for (Condition& condition : status.conditions)
    condition.message = instead;
  if (status.candidate) status.candidate->message = instead;
  if (status.kube_proxy) status.kube_proxy->message = instead;
  for (ModePreflight& preflight : status.preflights)
    preflight.message = instead;
  status.modules.clear();
  status.sysctls.clear();
  status.neighbours.clear();
  return status;
}

}  // namespace pointsman::kube
