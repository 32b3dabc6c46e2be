#include "operator/plan/rollout.h"

#include <algorithm>

namespace pointsman::op {
namespace {

using kube::TimePoint;
using std::chrono::ceil;
using std::chrono::seconds;

void WakeAt(std::optional<TimePoint>& wake_up, TimePoint when) {
  wake_up = wake_up ? std::min(*wake_up, when) : when;
}

const Revision* FindRevision(const std::vector<Revision>& revisions, const std::string& owner_uid,
                             int64_t number) {
  for (const Revision& revision : revisions) {
    if (revision.number == number && revision.owner_uid == owner_uid) return &revision;
  }
  return nullptr;
}

bool IsCanary(const NodeView& view, const kube::Canary& canary) {
  return !canary.node_selector || canary.node_selector->Matches(view.governed.node->labels);
}

void JudgeCanary(RolloutState& state, const kube::Canary& canary, TimePoint now) {
  const seconds soak = ceil<seconds>(canary.soak);
  size_t able = 0;
  size_t soaked = 0;
  std::optional<TimePoint> next;
  for (NodeView& view : state.nodes) {
    if (!IsCanary(view, canary)) continue;
    if (view.at_target || (view.reachable && view.answered && view.can_run)) ++able;
    if (!view.available) continue;
    if (view.available_since + soak <= now) {
      ++soaked;
    } else {
      const TimePoint due = view.available_since + soak;
      view.next = view.next ? std::min(*view.next, due) : due;
    }
  }
  state.canaries = canary.node_selector ? able : std::min(able, static_cast<size_t>(canary.nodes));
  state.canary_done = soaked >= state.canaries;
}

NodeProxyChange Update(const kube::NodeProxy& proxy) {
  NodeProxyChange change;
  change.kind = NodeProxyChange::Kind::kUpdate;
  change.name = proxy.name;
  change.uid = proxy.uid;
  change.resource_version = proxy.resource_version;
  change.spec = proxy.spec;
  return change;
}

// Asks the node's agent what the target would do there. A node that has no NodeProxy gets one with
// revision 0, which asks for nothing else.
NodeProxyChange Ask(const NodeView& view, const RolloutState& state, const std::string& name,
                    TimePoint now) {
  NodeProxyChange change;
  if (view.governed.proxy) {
    change = Update(*view.governed.proxy);
  } else {
    change.name = view.name();
    change.node_uid = view.governed.node->uid;
    change.spec.settings = state.target.settings;
  }
  // Also when it goes on with another's revision for now: that one can be deleted meanwhile.
  change.spec.configuration = name;
  change.spec.candidate = CandidateOf(state.target);
  change.asked_at = kube::FormatTime(now);
  return change;
}

NodeProxyChange Start(const NodeView& view, const RolloutState& state, const std::string& name,
                      TimePoint now) {
  NodeProxyChange change = Update(*view.governed.proxy);
  change.spec.configuration = name;
  change.spec.revision = state.target.number;
  change.spec.removed = false;
  change.spec.settings = state.target.settings;
  change.spec.candidate.reset();
  change.updated_at = kube::FormatTime(now);
  change.event =
      PlannedEvent{false, state.rolled_back ? "NodeRollingBack" : "NodeUpdating",
                   "node " + view.name() + ": revision " + std::to_string(state.target.number) +
                       " (" + std::string(kube::ToString(state.target.settings.mode)) + ")"};
  return change;
}

}  // namespace

RolloutState Judge(const Group& group, const Revision& spec_revision,
                   const std::vector<Revision>& revisions, TimePoint now) {
  const kube::ProxyConfiguration& configuration = *group.configuration;
  const kube::Rollout& rollout = configuration.spec.rollout;
  const kube::ProxyConfigurationStatus& status = configuration.status;
  RolloutState state;
  state.target = spec_revision;
  state.update_revision = spec_revision.number;
  state.paused = rollout.paused;

  // A decision to go back is kept in the status; any edit of the specification is a new try.
  const Revision* const last_good =
      status.current_revision != spec_revision.number
          ? FindRevision(revisions, configuration.uid, status.current_revision)
          : nullptr;
  const kube::Condition* decision = FindCondition(status.conditions, "RolledBack");
  if (decision != nullptr && decision->status == kube::ConditionStatus::kTrue &&
      decision->observed_generation == configuration.generation &&
      status.update_revision == spec_revision.number && last_good != nullptr) {
    state.rolled_back = true;
    state.target = *last_good;
  }

  state.nodes.reserve(group.nodes.size());
  for (const GovernedNode& node : group.nodes) {
    state.nodes.push_back(LookAt(node, configuration, state.target, now));
  }
  state.leaving = group.leaving;
  state.max_unavailable =
      rollout.max_unavailable.Of(static_cast<int64_t>(group.nodes.size() + group.leaving.size()));

  bool begun = false;
  bool all_there = true;
  size_t available = 0;
  for (const NodeView& view : state.nodes) {
    begun = begun || view.at_target;
    if (!view.at_target) ++state.pending;
    if (view.available) ++available;
    const bool out_of_reach = !view.reachable && (!view.at_target || view.overdue || view.applied);
    if (!view.available && !out_of_reach) all_there = false;
    if (!view.failure.empty()) state.failed.push_back(&view);
    if (!view.at_target && view.reachable && !view.answered) {
      (view.overdue ? state.agentless : state.waiting).push_back(&view);
    }
  }
  state.complete = all_there && available > 0;
  state.preflight_done = begun || state.waiting.empty() || state.rolled_back;
  if (!state.rolled_back) JudgeCanary(state, rollout.canary, now);
  state.roll_back_now = !state.failed.empty() && !state.rolled_back &&
                        rollout.on_failure == kube::OnFailure::kRollback && last_good != nullptr;
  return state;
}

std::vector<NodeProxyChange> NextChanges(RolloutState& state,
                                         const kube::ProxyConfiguration& configuration,
                                         TimePoint now, std::optional<TimePoint>& wake_up) {
  std::vector<NodeProxyChange> changes;
  int64_t changing = 0;
  int64_t unavailable = 0;
  for (const NodeView& view : state.nodes) {
    if (view.next) WakeAt(wake_up, *view.next);
    if (view.in_transition) ++changing;
    if (view.in_transition || view.down) ++unavailable;
  }
  for (const GovernedNode& node : state.leaving) {
    if (node.proxy->spec.removed) {
      ++changing;
      ++unavailable;
    }
  }
  if (state.roll_back_now) return changes;

  for (const NodeView& view : state.nodes) {
    // Going back needs no preflight (that revision ran there), but a new node needs its NodeProxy.
    if (!view.at_target && !view.asked && (!state.rolled_back || !view.governed.proxy)) {
      changes.push_back(Ask(view, state, configuration.name, now));
    }
  }
  // Once a revision has been good everywhere, one bad node is that node's trouble and must not keep
  // new nodes out.
  const bool was_good = configuration.status.current_revision == state.target.number;
  const bool stopped = !state.failed.empty() && !state.rolled_back && !was_good;
  if (state.preflight_done && !state.paused && !stopped) {
    std::vector<const NodeView*> startable;
    size_t canaries_begun = 0;
    const kube::Canary& canary = configuration.spec.rollout.canary;
    for (const NodeView& view : state.nodes) {
      if (view.at_target && IsCanary(view, canary)) ++canaries_begun;
      const bool ready_for_it =
          state.rolled_back ? view.governed.proxy != nullptr : view.answered && view.can_run;
      if (!view.at_target && view.reachable && ready_for_it) startable.push_back(&view);
    }
    // Nodes that do not serve anyway go first: changing them takes nothing away.
    std::stable_sort(startable.begin(), startable.end(), [](const NodeView* a, const NodeView* b) {
      return (a->in_transition || a->down) > (b->in_transition || b->down);
    });
    for (const NodeView* view : startable) {
      if (!state.canary_done && (!IsCanary(*view, canary) || canaries_begun >= state.canaries)) {
        continue;
      }
      const bool off_already = view->in_transition || view->down;
      const bool newcomer = was_good && view->untouched;
      if (!newcomer) {
        const int64_t others_changing = changing - (view->in_transition ? 1 : 0);
        if (others_changing >= state.max_unavailable) continue;
        if (!off_already && unavailable >= state.max_unavailable) continue;
        if (!view->in_transition) ++changing;
        if (!off_already) ++unavailable;
      }
      if (IsCanary(*view, canary)) ++canaries_begun;
      changes.push_back(Start(*view, state, configuration.name, now));
      ++state.starting;
    }
  }
  if (!state.paused) {
    // The nodes being removed count in `changing` already; NextRemovals counts them itself.
    int64_t others = changing;
    for (const GovernedNode& node : state.leaving) {
      if (node.proxy->spec.removed) --others;
    }
    for (NodeProxyChange& change :
         NextRemovals(state.leaving, state.max_unavailable - others,
                      ceil<seconds>(configuration.spec.rollout.progress_deadline), now, wake_up)) {
      changes.push_back(std::move(change));
    }
  }
  return changes;
}

std::vector<NodeProxyChange> NextRemovals(const std::vector<GovernedNode>& leaving, int64_t budget,
                                          seconds deadline, TimePoint now,
                                          std::optional<TimePoint>& wake_up) {
  std::vector<NodeProxyChange> changes;
  const auto erase = [&](const kube::NodeProxy& proxy, std::optional<PlannedEvent> event) {
    NodeProxyChange change = Update(proxy);
    change.kind = NodeProxyChange::Kind::kDelete;
    change.event = std::move(event);
    changes.push_back(std::move(change));
  };
  for (const GovernedNode& node : leaving) {
    const kube::NodeProxy& proxy = *node.proxy;
    if (proxy.deleting || !proxy.spec.removed) continue;
    const bool off = proxy.status.observed_generation >= proxy.generation &&
                     proxy.status.active_mode.empty() && proxy.status.draining_mode.empty();
    const TimePoint since = kube::ParseTime(proxy.updated_at).value_or(now);
    if (off) {
      erase(proxy, PlannedEvent{false, "NodeRemoved",
                                "node " + proxy.name + ": its rules are out of the kernel"});
    } else if (since + deadline <= now) {
      erase(proxy, PlannedEvent{true, "NodeNotCleaned",
                                "node " + proxy.name +
                                    " did not report within the progress deadline that its rules "
                                    "are out of the kernel: they may still be there; run the "
                                    "agent's --cleanup on it"});
    } else {
      WakeAt(wake_up, since + deadline);
      --budget;
    }
  }
  for (const GovernedNode& node : leaving) {
    const kube::NodeProxy& proxy = *node.proxy;
    if (proxy.deleting || proxy.spec.removed) continue;
    if (proxy.spec.revision == 0 && proxy.status.active_mode.empty()) {
      erase(proxy, std::nullopt);  // nothing was ever asked of it
      continue;
    }
    if (budget <= 0) continue;
    --budget;
    NodeProxyChange change = Update(proxy);
    change.spec.removed = true;
    change.spec.candidate.reset();
    change.updated_at = kube::FormatTime(now);
    change.event =
        PlannedEvent{false, "NodeRemoving", "node " + proxy.name + ": removing its rules"};
    changes.push_back(std::move(change));
  }
  return changes;
}

}  // namespace pointsman::op
