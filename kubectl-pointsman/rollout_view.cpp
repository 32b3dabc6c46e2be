#include "kubectl-pointsman/rollout_view.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "kube/pointsman/duration.h"
#include "operator/plan/status.h"

namespace pointsman::plugin {
namespace {

using kube::Condition;
using kube::ConditionStatus;
using kube::NodeProxy;
using std::chrono::seconds;

// The operator's own (operator/plan/status.cpp).
constexpr std::array<std::string_view, 10> kOperatorsConditions{
    "Accepted", "PreflightPassed", "Progressing", "Available",         "Degraded",
    "Paused",   "RolledBack",      "ClockSkew",   "NodesWithoutAgent", "KubeProxyReplaced"};

bool HasSpoken(const NodeProxy& proxy) {
  return proxy.status.observed_generation >= proxy.generation;
}

std::string Said(const Condition& condition) {
  return condition.message.empty() ? condition.reason : condition.message;
}

bool IsFinal(const Condition* degraded) {
  return degraded != nullptr && degraded->status == ConditionStatus::kTrue &&
         (degraded->reason == "HandoverReverted" || degraded->reason == "NoModeCanRun");
}

// The names of the canaries. By number they are those that were asked first.
std::set<std::string> Canaries(
    const kube::Canary& canary, const std::vector<const NodeProxy*>& ordered,
    const std::map<std::string, std::map<std::string, std::string>>& labels) {
  std::set<std::string> names;
  if (canary.node_selector) {
    for (const auto& [node, of_node] : labels) {
      if (canary.node_selector->Matches(of_node)) names.insert(node);
    }
    return names;
  }
  for (const NodeProxy* proxy : ordered) {
    if (static_cast<int64_t>(names.size()) >= canary.nodes) break;
    names.insert(proxy->name);
  }
  return names;
}

std::string AtATime(const kube::IntOrPercent& max_unavailable, int64_t nodes) {
  const int64_t count = max_unavailable.Of(nodes);
  std::string text = std::to_string(count) + " at a time";
  if (max_unavailable.percent) text += " (" + std::to_string(max_unavailable.value) + "%)";
  return text;
}

// By how fast the nodes after the canaries came there; their soak would say nothing.
std::optional<seconds> Eta(const std::vector<const NodeProxy*>& ordered,
                           const std::set<std::string>& canaries, const RolloutView& view,
                           kube::TimePoint now) {
  std::optional<kube::TimePoint> first;
  int64_t done = 0;
  for (const NodeProxy* proxy : ordered) {
    if (canaries.contains(proxy->name)) continue;
    const auto at = kube::ParseTime(proxy->updated_at);
    if (!at) continue;
    first = first ? std::min(*first, *at) : *at;
    done += IsDone(*proxy, view.target) ? 1 : 0;
  }
  int64_t all_done = 0;
  for (const Wave& wave : view.waves)
    all_done += wave.done;
  const int64_t left = view.configuration.status.nodes.desired - all_done;
  if (!first || done == 0 || left <= 0 || now <= *first) return std::nullopt;
  constexpr seconds kMost = std::chrono::hours(1000);  // longer is no estimate
  const auto estimate = static_cast<double>((now - *first).count()) / static_cast<double>(done) *
                        static_cast<double>(left);
  if (estimate > static_cast<double>(kMost.count())) return std::nullopt;
  return seconds(static_cast<int64_t>(estimate) + 1);
}

void AddWaves(const std::vector<const NodeProxy*>& ordered, const std::set<std::string>& canaries,
              RolloutView& view) {
  const kube::Rollout& rollout = view.configuration.spec.rollout;
  const int64_t desired = view.configuration.status.nodes.desired;
  Wave first{.name = "canary"};
  Wave rest{.name = "the others"};
  for (const NodeProxy* proxy : ordered) {
    Wave& wave = canaries.contains(proxy->name) ? first : rest;
    wave.done += IsDone(*proxy, view.target) ? 1 : 0;
  }
  // Those that were not asked yet are not among `canaries` when that is a number.
  first.nodes = rollout.canary.node_selector
                    ? std::min(desired, static_cast<int64_t>(canaries.size()))
                    : std::min(desired, rollout.canary.nodes);
  first.done = std::min(first.done, first.nodes);
  first.note = "then " + kube::FormatDuration(rollout.canary.soak) + " of soak";
  rest.nodes = desired - first.nodes;
  rest.done = std::min(rest.done, rest.nodes);
  rest.note = AtATime(rollout.max_unavailable, desired);
  if (first.nodes == 0) rest.name = "nodes";
  if (first.nodes > 0) view.waves.push_back(std::move(first));
  if (rest.nodes > 0) view.waves.push_back(std::move(rest));
}

}  // namespace

kube::TimePoint Now() {
  return std::chrono::floor<seconds>(std::chrono::system_clock::now());
}

bool IsOrdered(const NodeProxy& proxy, int64_t target) {
  return !proxy.spec.removed && target > 0 && proxy.spec.revision == target;
}

bool IsDone(const NodeProxy& proxy, int64_t target) {
  return IsOrdered(proxy, target) && HasSpoken(proxy) && proxy.status.observed_revision == target &&
         kube::IsTrue(proxy.status.conditions, "Ready");
}

std::string WaitsFor(const NodeProxy& proxy, int64_t target, std::chrono::nanoseconds min_ready,
                     kube::TimePoint now) {
  const kube::NodeProxyStatus& status = proxy.status;
  const Condition* const degraded = FindCondition(status.conditions, "Degraded");
  const Condition* const ready = FindCondition(status.conditions, "Ready");
  if (!IsOrdered(proxy, target)) {
    const auto& asked = proxy.spec.candidate;
    const bool answered = HasSpoken(proxy) && status.candidate && asked &&
                          status.candidate->revision == asked->revision;
    if (!asked || answered) return "";
    return "its agent's answer whether it can run " + std::string(kube::ToString(asked->mode));
  }
  if (!HasSpoken(proxy)) return "its agent to see the order (does its Pod run?)";
  if (IsDone(proxy, target)) {
    const auto at = kube::ParseTime(proxy.updated_at);
    if (at && now < *at + std::chrono::ceil<seconds>(min_ready))
      return "serves; has to for minReady (" + kube::FormatDuration(min_ready) + ") to count";
    return "";
  }
  if (degraded != nullptr && degraded->status == ConditionStatus::kTrue) return Said(*degraded);
  if (degraded != nullptr &&
      (degraded->reason == "HandoverWatched" || degraded->reason == "HandoverWaiting"))
    return Said(*degraded);
  if (status.observed_revision == target && ready != nullptr) return Said(*ready);
  if (proxy.spec.provider == kube::Provider::kKubeProxy)
    return "its kube-proxy to restart and serve in mode " +
           std::string(kube::ToString(proxy.spec.settings.mode));
  return "its kernel to be written and read back";
}

ExitCode RolloutView::Outcome() const {
  namespace phase = op::phase;
  const std::string& now = configuration.status.phase;
  if (unobserved) return ExitCode::kNotFinished;
  if (now == phase::kComplete) return ExitCode::kOk;
  const bool failed = now == phase::kDegraded || now == phase::kRolledBack ||
                      now == phase::kRollingBack || now == phase::kRejected;
  return failed ? ExitCode::kFailed : ExitCode::kNotFinished;
}

bool RolloutView::AtRest() const {
  namespace phase = op::phase;
  const std::string& now = configuration.status.phase;
  if (unobserved) return false;
  if (now == phase::kPending) {
    const kube::Condition* const progressing = Condition("Progressing");
    return progressing != nullptr && progressing->reason == "NoNodes";
  }
  return now == phase::kComplete || now == phase::kDegraded || now == phase::kRolledBack ||
         now == phase::kRejected || (now == phase::kPaused && in_flight.empty());
}

RolloutView MakeRolloutView(kube::ProxyConfiguration configuration, std::vector<NodeProxy> proxies,
                            const std::map<std::string, std::map<std::string, std::string>>& labels,
                            kube::TimePoint now) {
  RolloutView view;
  view.configuration = std::move(configuration);
  const kube::ProxyConfigurationStatus& status = view.configuration.status;
  view.unobserved = status.observed_generation < view.configuration.generation;
  view.target = view.IsTrue("RolledBack") ? status.current_revision : status.update_revision;
  view.mode = kube::ToString(view.configuration.spec.settings.mode);
  for (NodeProxy& proxy : proxies) {
    if (proxy.spec.configuration == view.configuration.name) view.nodes.push_back(std::move(proxy));
  }
  std::vector<const NodeProxy*> ordered;
  for (const NodeProxy& proxy : view.nodes) {
    if (IsOrdered(proxy, view.target)) {
      ordered.push_back(&proxy);
      view.mode = kube::ToString(proxy.spec.settings.mode);
    }
    std::string what = WaitsFor(proxy, view.target, view.configuration.spec.rollout.min_ready, now);
    const bool final_word = IsFinal(FindCondition(proxy.status.conditions, "Degraded"));
    if (!what.empty()) view.in_flight.push_back({proxy.name, std::move(what), final_word});
  }
  std::sort(ordered.begin(), ordered.end(), [](const NodeProxy* a, const NodeProxy* b) {
    return std::pair(a->updated_at, a->name) < std::pair(b->updated_at, b->name);
  });
  const std::set<std::string> canaries =
      Canaries(view.configuration.spec.rollout.canary, ordered, labels);
  AddWaves(ordered, canaries, view);
  if (view.Outcome() == ExitCode::kNotFinished && !view.AtRest())
    view.eta = Eta(ordered, canaries, view, now);
  for (const kube::Condition& condition : status.conditions) {
    if (std::find(kOperatorsConditions.begin(), kOperatorsConditions.end(), condition.type) ==
        kOperatorsConditions.end())
      view.others.push_back(condition);
  }
  return view;
}

}  // namespace pointsman::plugin
