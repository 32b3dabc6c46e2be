#include "operator/plan/node_view.h"

#include <algorithm>

namespace pointsman::op {
namespace {

using kube::Condition;
using kube::ConditionStatus;
using kube::FindCondition;
using kube::NodeProxy;
using kube::TimePoint;
using std::chrono::ceil;
using std::chrono::seconds;

// Reports `when` as a moment to look again, if it is still to come.
bool Reached(NodeView& view, TimePoint when, TimePoint now) {
  if (when <= now) return true;
  view.next = view.next ? std::min(*view.next, when) : when;
  return false;
}

TimePoint TimeOr(const std::string& text, TimePoint otherwise) {
  return kube::ParseTime(text).value_or(otherwise);
}

std::string Text(const Condition& condition) {
  return condition.message.empty() ? condition.reason : condition.message;
}

void LookAtTarget(NodeView& view, const NodeProxy& proxy, const kube::Rollout& rollout,
                  const Revision& target, TimePoint now) {
  const kube::NodeProxyStatus& status = proxy.status;
  const Condition* ready = FindCondition(status.conditions, "Ready");
  const Condition* degraded = FindCondition(status.conditions, "Degraded");
  // Without the annotation (a person removed it) the clock starts now, and never ends: better than
  // calling a node failed that had no time.
  const TimePoint updated_at = TimeOr(proxy.updated_at, now);
  const TimePoint turned =
      ready != nullptr ? std::max(updated_at, TimeOr(ready->last_transition_time, updated_at))
                       : updated_at;
  const bool seen = status.observed_generation >= proxy.generation;
  view.applied = seen && status.observed_revision == target.number;
  if (view.applied && view.serving) {
    view.available_since = turned + ceil<seconds>(rollout.min_ready);
    view.available = Reached(view, view.available_since, now);
  }
  if (view.available) return;
  view.in_transition = true;

  const TimePoint since = view.applied ? turned : updated_at;
  view.overdue = Reached(view, since + ceil<seconds>(rollout.progress_deadline), now);
  if (!view.reachable) {
    // A node that died is no verdict on the revision, and must not hold up the others for ever.
    if (view.overdue) view.in_transition = false;
    return;
  }
  if (seen && !view.applied && view.degraded && degraded->observed_generation >= proxy.generation) {
    // The agent went back by itself, or found no mode to run: it will not get there. Other trouble
    // may pass, and gets minReady for it.
    const bool final_word =
        degraded->reason == "HandoverReverted" || degraded->reason == "NoModeCanRun";
    const TimePoint trouble = std::max(updated_at, TimeOr(degraded->last_transition_time, now));
    if (final_word || Reached(view, trouble + ceil<seconds>(rollout.min_ready), now)) {
      view.failure = Text(*degraded);
    }
  }
  if (view.failure.empty() && view.overdue) {
    view.failure = ready != nullptr && ready->status == ConditionStatus::kFalse && view.applied
                       ? Text(*ready)
                       : "did not get there within the progress deadline";
  }
}

void LookAtPending(NodeView& view, const NodeProxy& proxy, const kube::Rollout& rollout,
                   const Revision& target, TimePoint now) {
  const kube::NodeProxyStatus& status = proxy.status;
  view.asked = proxy.spec.candidate == CandidateOf(target);
  view.answered = view.asked && status.candidate && status.candidate->revision == target.number;
  if (view.answered) {
    view.can_run = !status.candidate->mode.empty();
    if (!status.candidate->passed) view.cannot_run = status.candidate->message;
  } else if (view.asked) {
    view.overdue =
        Reached(view, TimeOr(proxy.asked_at, now) + ceil<seconds>(rollout.progress_deadline), now);
  }
  if (proxy.spec.revision > 0 && !proxy.spec.removed) {
    view.in_transition =
        status.observed_revision != proxy.spec.revision && view.reachable &&
        !Reached(view, TimeOr(proxy.updated_at, now) + ceil<seconds>(rollout.progress_deadline),
                 now);
  }
}

}  // namespace

kube::NodeProxyCandidate CandidateOf(const Revision& revision) {
  kube::NodeProxyCandidate candidate;
  candidate.revision = revision.number;
  candidate.mode = revision.settings.mode;
  candidate.fallback_modes = revision.settings.fallback_modes;
  candidate.ipvs_scheduler = revision.settings.ipvs.scheduler;
  candidate.modules = revision.settings.modules;
  return candidate;
}

NodeView LookAt(const GovernedNode& governed, const kube::ProxyConfiguration& configuration,
                const Revision& target, TimePoint now) {
  NodeView view;
  view.governed = governed;
  view.reachable = governed.node->ready;
  view.untouched = !governed.proxy;
  if (!governed.proxy) return view;
  const NodeProxy& proxy = *governed.proxy;
  const kube::NodeProxyStatus& status = proxy.status;
  const kube::Rollout& rollout = configuration.spec.rollout;
  const Condition* ready = FindCondition(status.conditions, "Ready");
  const Condition* degraded = FindCondition(status.conditions, "Degraded");
  view.running_mode = status.active_mode;
  view.serving = ready != nullptr && ready->status == ConditionStatus::kTrue;
  view.degraded = degraded != nullptr && degraded->status == ConditionStatus::kTrue &&
                  degraded->reason != "Fallback";
  view.untouched = proxy.spec.revision == 0 && status.active_mode.empty();
  view.at_target = !proxy.spec.removed && proxy.spec.configuration == configuration.name &&
                   proxy.spec.revision == target.number && proxy.spec.settings == target.settings;
  if (view.at_target) {
    view.can_run = true;
    LookAtTarget(view, proxy, rollout, target, now);
    view.fallback = view.applied && !status.active_mode.empty() &&
                    status.active_mode != kube::ToString(target.settings.mode);
    const Condition* preflight = FindCondition(status.conditions, "PreflightPassed");
    if (view.applied && preflight != nullptr && preflight->status == ConditionStatus::kFalse) {
      view.cannot_run = Text(*preflight);
    } else if (view.fallback) {
      view.cannot_run = "the agent gives no reason";
    }
  } else {
    LookAtPending(view, proxy, rollout, target, now);
  }
  view.down = view.reachable && proxy.spec.revision > 0 && !proxy.spec.removed &&
              ready != nullptr && ready->status == ConditionStatus::kFalse;
  return view;
}

}  // namespace pointsman::op
