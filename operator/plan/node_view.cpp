#include "operator/plan/node_view.h"

#include <algorithm>

#include "operator/plan/gates.h"
#include "operator/plan/wake_up.h"

namespace pointsman::op {
namespace {

using kube::Condition;
using kube::ConditionStatus;
using kube::FindCondition;
using kube::NodeProxy;
using kube::TimePoint;
using std::chrono::ceil;
using std::chrono::seconds;

TimePoint TimeOr(const std::string& text, TimePoint otherwise) {
  return kube::ParseTime(text).value_or(otherwise);
}

std::string Text(const Condition& condition) {
  return condition.message.empty() ? condition.reason : condition.message;
}

bool Spoke(const NodeProxy& proxy) {
  return proxy.status.observed_generation >= proxy.generation;
}

// A rollout that has failed on a node stays failed when another operator takes over: for it the
// time that its predecessor wrote counts, if it is the earlier one.
bool HasFailedBefore(const kube::ProxyConfiguration& configuration) {
  const Condition* degraded = FindCondition(configuration.status.conditions, "Degraded");
  return degraded != nullptr && degraded->status == ConditionStatus::kTrue &&
         degraded->reason == "NodeFailed" &&
         degraded->observed_generation == configuration.generation;
}

// Since when it serves. Who has not seen it begin takes the agent's word, unless it is of the
// future.
TimePoint ServingSince(const Sighting& sighting, const NodeProxy& proxy, const Condition& ready) {
  if (sighting.saw_turn) return *sighting.serving;
  const TimePoint written = TimeOr(proxy.updated_at, *sighting.serving);
  return std::min(*sighting.serving,
                  std::max(written, TimeOr(ready.last_transition_time, written)));
}

// The verdict on a node that was asked to run the target and is not available.
void LookForFailure(NodeView& view, const NodeProxy& proxy, const kube::Rollout& rollout,
                    const Sighting& sighting, TimePoint now) {
  const Condition* ready = FindCondition(proxy.status.conditions, "Ready");
  const Condition* degraded = FindCondition(proxy.status.conditions, "Degraded");
  if (sighting.degraded && !view.applied() && view.degraded &&
      degraded->observed_generation >= proxy.generation) {
    // The agent went back by itself, or found no mode to run: it will not get there. Other trouble
    // may pass, and gets minReady for it.
    const bool final_word =
        degraded->reason == "HandoverReverted" || degraded->reason == "NoModeCanRun";
    if (final_word ||
        Reached(view.next, *sighting.degraded + ceil<seconds>(rollout.min_ready), now)) {
      view.failure = Text(*degraded);
    }
  }
  if (view.failure.empty() && view.order == Order::kOverdue) {
    view.failure = ready != nullptr && ready->status == ConditionStatus::kFalse && view.applied()
                       ? Text(*ready)
                       : "did not get there within the progress deadline";
    if (proxy.spec.provider == kube::Provider::kKubeProxy && !sighting.prepared)
      view.failure += kNotPrepared;
  }
}

// What the change did to the traffic, until the revision has been good everywhere: what comes later
// is no rollout's doing any more.
void HoldAgainstGates(NodeView& view, const NodeProxy& proxy,
                      const kube::ProxyConfiguration& configuration, const Revision& target) {
  const auto& impact = proxy.status.impact;
  if (!view.applied() || !view.failure.empty() || !impact || impact->revision != target.number ||
      configuration.status.current_revision == target.number)
    return;
  view.tripped = Trips(*impact, proxy.status.services, configuration.spec.rollout.gates);
  if (!view.tripped) return;
  view.tripped->node = view.name();
  view.failure = Describe(*view.tripped);
}

void LookAtTarget(NodeView& view, const NodeProxy& proxy,
                  const kube::ProxyConfiguration& configuration, const Revision& target,
                  const Sighting& sighting, TimePoint now) {
  const kube::Rollout& rollout = configuration.spec.rollout;
  const Condition* ready = FindCondition(proxy.status.conditions, "Ready");
  // Who was available with what is asked for needs no new word for what else was written since.
  const bool spoke = Spoke(proxy) || sighting.available;
  const bool applied = spoke && proxy.status.observed_revision == target.number;
  view.stage = applied ? Stage::kApplied : Stage::kOrdered;
  if (applied && view.serving && sighting.serving) {
    view.available_since = ServingSince(sighting, proxy, *ready) + ceil<seconds>(rollout.min_ready);
    if (Reached(view.next, view.available_since, now)) {
      view.stage = Stage::kAvailable;
      return;
    }
  }

  // One that comes and goes without ever being available runs out of time, too.
  TimePoint since = sighting.available.value_or(sighting.changed);
  if (!applied && HasFailedBefore(configuration)) {
    since = std::min(since, TimeOr(proxy.updated_at, since));
  }
  if (!Reached(view.next, ProgressDeadline(proxy, rollout, sighting, since), now)) {
    view.order = Order::kUnderWay;
  } else {
    // A node that died must not hold up the others for ever.
    view.order = view.reachable ? Order::kOverdue : Order::kLost;
  }
  if (view.reachable) LookForFailure(view, proxy, rollout, sighting, now);
}

// Takes the answer of the agent only if it makes sense.
void TakeAnswer(NodeView& view, const kube::CandidateStatus& answer, const Revision& target) {
  const std::string asked(kube::ToString(target.settings.mode));
  const auto& fallbacks = target.settings.fallback_modes;
  const auto mode = kube::ParseMode(answer.mode);
  const bool known =
      mode && (*mode == target.settings.mode ||
               std::find(fallbacks.begin(), fallbacks.end(), *mode) != fallbacks.end());
  view.stage = Stage::kUnable;
  if (answer.provider != target.provider) {
    view.cannot_run = "its agent is of a version that does not know provider KubeProxy: update it";
    return;
  }
  if (known && answer.passed == (*mode == target.settings.mode)) {
    view.stage = Stage::kAble;
    if (!answer.passed) view.cannot_run = answer.message;
  } else if (answer.mode.empty() && !answer.passed) {
    view.cannot_run = answer.message;
  } else {
    view.cannot_run = "its agent's answer is contradictory: " + asked +
                      (answer.passed ? " passed" : " did not pass") + " and mode \"" + answer.mode +
                      "\" would run";
  }
  if (!answer.passed && view.cannot_run.empty()) view.cannot_run = "the agent gives no reason";
}

void LookAtPending(NodeView& view, const NodeProxy& proxy,
                   const kube::ProxyConfiguration& configuration, const Revision& target,
                   const Sighting& sighting, TimePoint now) {
  const kube::NodeProxyStatus& status = proxy.status;
  const seconds deadline = ceil<seconds>(configuration.spec.rollout.progress_deadline);
  if (proxy.spec.candidate == CandidateOf(target)) {
    if (Spoke(proxy) && status.candidate && status.candidate->revision == target.number) {
      TakeAnswer(view, *status.candidate, target);
    } else {
      view.stage =
          Reached(view.next, sighting.asked + deadline, now) ? Stage::kSilent : Stage::kAsked;
      if (!view.governed.node->ready) view.reachable = false;
    }
  }
  const bool ordered = proxy.spec.revision > 0 && !proxy.spec.removed;
  if (ordered && status.observed_revision != proxy.spec.revision &&
      !Reached(view.next, sighting.changed + deadline, now)) {
    view.order = Order::kUnderWay;
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
  candidate.neighbours = revision.settings.neighbours;
  candidate.provider = revision.provider;
  return candidate;
}

bool NodeView::RunsAnother(kube::Mode mode) const {
  return applied() && !running_mode.empty() && running_mode != kube::ToString(mode);
}

TimePoint ProgressDeadline(const NodeProxy& proxy, const kube::Rollout& rollout,
                           const Sighting& sighting, TimePoint since) {
  auto patience = ceil<seconds>(rollout.progress_deadline);
  if (proxy.spec.provider == kube::Provider::kKubeProxy) {
    // How long connections drain before kube-proxy restarts is what somebody has asked for.
    if (sighting.prepared)
      since = std::max(since, *sighting.prepared);
    else
      patience += ceil<seconds>(proxy.spec.settings.drain_timeout);
  }
  return since + patience;
}

NodeView LookAt(const GovernedNode& governed, const kube::ProxyConfiguration& configuration,
                const Revision& target, Sightings& sightings, TimePoint now) {
  NodeView view;
  view.governed = governed;
  const kube::Node& node = *governed.node;
  view.reachable = node.ready;
  view.untouched = !governed.proxy;
  if (!governed.proxy) return view;
  const NodeProxy& proxy = *governed.proxy;
  const kube::NodeProxyStatus& status = proxy.status;
  const Sighting sighting = sightings.Of(proxy.name);
  const Condition* ready = FindCondition(status.conditions, "Ready");
  const Condition* degraded = FindCondition(status.conditions, "Degraded");
  if (kube::ParseMode(status.active_mode)) view.running_mode = status.active_mode;
  view.serving = ready != nullptr && ready->status == ConditionStatus::kTrue;
  view.degraded = degraded != nullptr && degraded->status == ConditionStatus::kTrue &&
                  degraded->reason != "Fallback";
  view.clock_ahead = sighting.clock_ahead;
  view.untouched = proxy.spec.revision == 0 && status.active_mode.empty();
  // A kubelet that fell silent is most likely that of a dead node: its agent's last word is old.
  // That of a node that was never Ready may not have come up yet, and waits for us.
  view.reachable = node.ready || (Spoke(proxy) && (!node.silent || node.never_ready));
  const bool idle = status.active_mode.empty() && status.observed_revision == 0;
  const bool proven = configuration.status.current_revision != 0 &&
                      proxy.spec.revision == configuration.status.current_revision;
  view.costs_nothing = idle && (proven || (!node.ready && node.never_ready));
  const bool at_target = !proxy.spec.removed && proxy.spec.configuration == configuration.name &&
                         proxy.spec.revision == target.number &&
                         proxy.spec.provider == target.provider &&
                         proxy.spec.settings == target.settings;
  if (at_target) {
    LookAtTarget(view, proxy, configuration, target, sighting, now);
    HoldAgainstGates(view, proxy, configuration, target);
    const Condition* preflight = FindCondition(status.conditions, "PreflightPassed");
    if (view.applied() && preflight != nullptr && preflight->status == ConditionStatus::kFalse) {
      view.cannot_run = Text(*preflight);
    } else if (view.RunsAnother(target.settings.mode)) {
      view.cannot_run = "the agent gives no reason";
    }
  } else {
    LookAtPending(view, proxy, configuration, target, sighting, now);
  }
  if (node.ready && sighting.down) {
    const seconds deadline = ceil<seconds>(configuration.spec.rollout.progress_deadline);
    view.outage =
        Reached(view.next, *sighting.down + deadline, now) ? Outage::kLasting : Outage::kRecent;
  }
  return view;
}

}  // namespace pointsman::op
