#include "node-agent/status/status_builder.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kube/pointsman/status_bounds.h"
#include "node-agent/dataplane/sync_problems.h"

namespace pointsman::agent {
namespace {

using kube::Condition;
using kube::ConditionStatus;

constexpr std::array<std::string_view, 6> kOwnConditions{
    "PreflightPassed", "ModulesLoaded", "RulesSynced", "ServicesAccepted", "Ready", "Degraded"};

constexpr size_t kMostProblemsTold = 5;

std::string Told(const std::vector<SyncProblem>& problems) {
  return Describe(problems, kMostProblemsTold);
}

Condition Preflight(const ModeState& modes) {
  if (!modes.preflight) {
    return {"PreflightPassed", ConditionStatus::kUnknown, "NotRunYet",
            "the preflight has not run yet"};
  }
  return {"PreflightPassed",
          modes.preflight->passed ? ConditionStatus::kTrue : ConditionStatus::kFalse,
          modes.preflight->reason, modes.preflight->message};
}

Condition Modules(const ModeState& modes) {
  if (!modes.preflight) {
    return {"ModulesLoaded", ConditionStatus::kUnknown, "NotRunYet",
            "the preflight has not run yet"};
  }
  std::string missing;
  for (const kube::ModuleStatus& module : modes.preflight->modules) {
    if (module.state != "Missing") continue;
    if (!missing.empty()) missing += ", ";
    missing += module.name;
  }
  if (!missing.empty()) {
    return {"ModulesLoaded", ConditionStatus::kFalse, "ModuleMissing", "missing: " + missing};
  }
  return {"ModulesLoaded", ConditionStatus::kTrue, "AllPresent",
          fmt::format("all {} kernel modules that {} needs are loaded or built in",
                      modes.preflight->modules.size(), kube::ToString(*modes.desired))};
}

// A kube-proxy programs the node.
bool IsStock(const StatusInput& input) {
  return input.proxy->spec.provider == kube::Provider::kKubeProxy;
}

Condition Rules(const StatusInput& input) {
  const ModeState& modes = *input.modes;
  if (!modes.active) {
    if (!modes.problems.empty()) {
      return {"RulesSynced", ConditionStatus::kFalse, "SyncFailed", Told(modes.problems)};
    }
    return {"RulesSynced", ConditionStatus::kFalse, "NothingProgrammed",
            IsStock(input) ? modes.waits_for
            : input.proxy->spec.revision == 0
                ? "no rules were written: this node has not had its turn in the rollout yet"
            : input.caches_synced
                ? "no rules are in the kernel"
                : "waiting for the API server's lists of Services, EndpointSlices "
                  "and this Node"};
  }
  if (modes.failed) {
    return {"RulesSynced", ConditionStatus::kFalse, "SyncFailed", Told(modes.problems)};
  }
  if (!modes.synced_once && IsStock(input))
    return {"RulesSynced", ConditionStatus::kUnknown, "NotReadBackYet", modes.waits_for};
  if (!modes.synced_once) {
    return {"RulesSynced", ConditionStatus::kUnknown, "Adopted",
            "the rules of an earlier run are in the kernel; the first sync is under way"};
  }
  std::string message =
      fmt::format("{} rules were {}read back", kube::ToString(*modes.active),
                  IsStock(input) ? "written by kube-proxy, and " : "written and ");
  if (!modes.problems.empty()) message += ", but for " + Told(modes.problems);
  return {"RulesSynced", ConditionStatus::kTrue, "Synced", message};
}

Condition Ready(const StatusInput& input) {
  const ModeState& modes = *input.modes;
  if (input.proxy->spec.removed && !input.removal_waits.empty())
    return {
        "Ready", ConditionStatus::kFalse, "RemovalWaits",
        "the rules are removed when what comes in their place is there: " + input.removal_waits};
  if (input.proxy->spec.removed) {
    return {"Ready", ConditionStatus::kFalse, "Removed",
            "the rules were removed because spec.removed is set"};
  }
  if (!modes.active || !modes.synced_once) {
    return {"Ready", ConditionStatus::kFalse, "NotSynced", "Services are not programmed yet"};
  }
  if (modes.failed) {
    return {"Ready", ConditionStatus::kFalse, "SyncFailed", Told(modes.problems)};
  }
  return {"Ready", ConditionStatus::kTrue, "Serving",
          fmt::format("{}{} serves this node's Service traffic",
                      IsStock(input) ? "kube-proxy in mode " : "", kube::ToString(*modes.active))};
}

// What failed and is tried again, though this node serves.
std::string Retried(const StatusInput& input) {
  std::string text = input.modes->unfinished;
  if (input.failing_steps == nullptr) return text;
  for (const auto& [step, message] : *input.failing_steps) {
    if (!text.empty()) text += "; ";
    text += fmt::format("retrying: {}: {}", step, message);
  }
  return text;
}

Condition Degraded(const StatusInput& input) {
  const ModeState& modes = *input.modes;
  if (!modes.reverted_reason.empty()) {
    return {"Degraded", ConditionStatus::kTrue, "HandoverReverted", modes.reverted_reason};
  }
  if (!modes.fallback_reason.empty()) {
    if (!modes.active) {
      return {"Degraded", ConditionStatus::kTrue, "NoModeCanRun",
              "no mode can run on this node: " + modes.fallback_reason};
    }
    return {"Degraded", ConditionStatus::kTrue, "Fallback",
            fmt::format("{} runs instead of {}: {}", kube::ToString(*modes.active),
                        kube::ToString(*modes.desired), modes.fallback_reason)};
  }
  if (modes.failed) {
    return {"Degraded", ConditionStatus::kTrue, "SyncFailed", Told(modes.problems)};
  }
  if (!modes.problems.empty()) {
    return {"Degraded", ConditionStatus::kTrue, "FamilyNotServed", Told(modes.problems)};
  }
  if (!input.neighbours.refusals.empty()) {
    return {
        "Degraded", ConditionStatus::kTrue, "NeighbourRefused",
        fmt::format("{} goes on, but: {}", modes.active ? kube::ToString(*modes.active) : "nothing",
                    fmt::join(input.neighbours.refusals, "; "))};
  }
  if (!modes.not_ready.empty()) {
    return {"Degraded", ConditionStatus::kTrue, "NeighbourNotReady",
            fmt::format("{} serves, but: {}",
                        modes.active ? kube::ToString(*modes.active) : "nothing", modes.not_ready)};
  }
  const std::string retried = Retried(input);
  if (!retried.empty()) return {"Degraded", ConditionStatus::kTrue, "Retrying", retried};
  if (!input.missing.empty())
    return {"Degraded", ConditionStatus::kTrue, "NodeIncomplete", input.missing};
  if (!modes.watching.empty())
    return {"Degraded", ConditionStatus::kFalse, "HandoverWatched", modes.watching};
  if (!modes.waits_for.empty()) {
    return {"Degraded", ConditionStatus::kFalse, "HandoverWaiting",
            fmt::format("{} serves; the handover waits: {}",
                        modes.active ? kube::ToString(*modes.active) : "nothing", modes.waits_for)};
  }
  return {"Degraded", ConditionStatus::kFalse, "DesiredModeActive",
          "the node runs the desired mode"};
}

// What of a Service cannot be done is refused and the rest served, so the node is none the worse
// for it: a condition of its own.
Condition ServicesAccepted(const StatusInput& input) {
  if (!input.caches_synced) {
    return {"ServicesAccepted", ConditionStatus::kUnknown, "NotKnownYet",
            "the Services are not known yet"};
  }
  if (input.services_not_as_written == 0) {
    return {"ServicesAccepted", ConditionStatus::kTrue, "AllAccepted",
            "all Services are served as specified"};
  }
  return {"ServicesAccepted", ConditionStatus::kFalse, "NotServedAsSpecified",
          fmt::format("{} Services are not served as specified, for example {}",
                      input.services_not_as_written, Told(input.not_as_written))};
}

kube::NodeProxyStatus WithoutNumbers(kube::NodeProxyStatus status) {
  status.services = status.endpoints = status.draining_connections = 0;
  status.last_sync.clear();
  if (status.impact && status.impact->sync_after) status.impact->sync_after = 0;
  return status;
}

}  // namespace

bool DiffersInSubstance(const kube::NodeProxyStatus& a, const kube::NodeProxyStatus& b) {
  return !(WithoutNumbers(a) == WithoutNumbers(b));
}

// A handover that was reverted or waits leaves the revision unapplied, and so does a sync that
// failed.
bool IsInEffect(const StatusInput& input) {
  const ModeState& modes = *input.modes;
  return input.applied && modes.reverted_reason.empty() && modes.unfinished.empty() &&
         modes.watching.empty() && modes.waits_for.empty() &&
         (input.proxy->spec.removed || (modes.synced_once && !modes.failed));
}

kube::NodeProxyStatus BuildStatus(const StatusInput& input, const kube::NodeProxyStatus& previous) {
  const ModeState& modes = *input.modes;
  kube::NodeProxyStatus status = previous;
  status.observed_generation = input.proxy->generation;
  status.active_mode = modes.active && modes.synced_once
                           ? std::string(kube::ToString(*modes.active))
                           : (modes.active ? previous.active_mode : std::string());
  if (IsInEffect(input)) status.observed_revision = input.proxy->spec.revision;
  status.prepared_revision = input.prepared_revision;
  status.kernel_release = input.kernel_release;
  status.modules = modes.preflight ? modes.preflight->modules : previous.modules;
  if (input.sysctls) status.sysctls = *input.sysctls;
  if (input.neighbours.known) status.neighbours = input.neighbours.neighbours;
  status.services = static_cast<int64_t>(input.services);
  status.endpoints = static_cast<int64_t>(input.endpoints);
  status.draining_mode = modes.draining ? std::string(kube::ToString(*modes.draining)) : "";
  status.draining_connections = static_cast<int64_t>(modes.draining_connections);
  status.agent_version = input.agent_version;
  status.candidate = input.candidate;
  status.impact = input.impact;
  status.kube_proxy = input.kube_proxy;
  if (!input.preflights.empty()) status.preflights = input.preflights;
  kube::KeepRoomFor(kOwnConditions, status.conditions);
  for (Condition condition : {Preflight(modes), Modules(modes), Rules(input),
                              ServicesAccepted(input), Ready(input), Degraded(input)}) {
    condition.observed_generation = input.proxy->generation;
    kube::SetCondition(status.conditions, std::move(condition), input.now);
  }
  kube::KeepToSchema(status);
  if (!(status == previous) && modes.synced_once) status.last_sync = input.now;
  return status;
}

}  // namespace pointsman::agent
