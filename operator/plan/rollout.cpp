#include "operator/plan/rollout.h"

#include <algorithm>
#include <iterator>

#include "operator/plan/gates.h"
#include "operator/plan/kube_proxy_config.h"
#include "operator/plan/kube_proxy_rollout.h"
#include "operator/plan/provider_rollout.h"
#include "operator/plan/wake_up.h"

namespace pointsman::op {

bool IsCanary(const NodeView& view, const kube::Canary& canary) {
  return !canary.node_selector || canary.node_selector->Matches(view.governed.node->labels);
}

NodeProxyChange UpdateOf(const kube::NodeProxy& proxy) {
  NodeProxyChange change;
  change.kind = NodeProxyChange::Kind::kUpdate;
  change.name = proxy.name;
  change.uid = proxy.uid;
  change.resource_version = proxy.resource_version;
  change.spec = proxy.spec;
  return change;
}

namespace {

using kube::TimePoint;
using std::chrono::ceil;
using std::chrono::seconds;

const Revision* FindRevision(const std::vector<Revision>& revisions, const std::string& owner_uid,
                             int64_t number) {
  for (const Revision& revision : revisions) {
    if (revision.number == number && revision.owner_uid == owner_uid) return &revision;
  }
  return nullptr;
}

// Going back needs no preflight: that revision ran there.
bool MayStart(const NodeView& view, const RolloutState& state) {
  if (view.at_target() || !view.reachable || !view.may_start) return false;
  return state.rolled_back ? view.governed.proxy != nullptr : view.stage == Stage::kAble;
}

// A new node while the target is not known to be good. What the target would do there is asked
// already, and no matter for this.
bool GetsLastGood(const NodeView& view, const RolloutState& state) {
  return state.last_good && view.untouched && view.reachable && view.answered() &&
         !view.last_good_restarts;
}

// Connections that are still to be cut there would be told of too late, if the others followed
// now. A node that never comes to the end of it does not hold them up for longer than it may drain.
bool AwaitsDrain(const NodeView& view, const RolloutState& state, const kube::Rollout& rollout,
                 TimePoint& until) {
  if (!MayYetCut(view.governed.proxy->status, rollout.gates)) return false;
  constexpr seconds kLooks{60};  // at the traffic, before and after the old mode is removed
  until = view.available_since + ceil<seconds>(state.target.settings.drain_timeout) + kLooks;
  return true;
}

void JudgeCanary(RolloutState& state, const kube::Rollout& rollout, TimePoint now) {
  const kube::Canary& canary = rollout.canary;
  const seconds soak = ceil<seconds>(canary.soak);
  size_t able = 0;
  size_t soaked = 0;
  for (NodeView& view : state.nodes) {
    if (!IsCanary(view, canary)) continue;
    // One that died since it was asked: another has to be the canary in its place.
    const bool begun = view.at_target() && view.order != Order::kLost;
    if (begun || MayStart(view, state)) ++able;
    if (!view.available() || view.taking_over() || view.takeover == Takeover::kOverdue) continue;
    TimePoint due =
        std::max(view.available_since, view.taken_over_since.value_or(view.available_since)) + soak;
    if (TimePoint drained; AwaitsDrain(view, state, rollout, drained) && now < drained) {
      due = std::max(due, drained);
      state.draining_canaries.push_back(&view);
    }
    if (due <= now) {
      ++soaked;
    } else {
      view.next = view.next ? std::min(*view.next, due) : due;
    }
  }
  state.canaries = canary.node_selector ? able : std::min(able, static_cast<size_t>(canary.nodes));
  state.canary_done = soaked >= state.canaries;
}

// Asks the node's agent what the target would do there. A node that has no NodeProxy gets one with
// revision 0, which asks for nothing else.
NodeProxyChange Ask(const GovernedNode& node, const RolloutState& state, const std::string& name,
                    TimePoint now) {
  NodeProxyChange change;
  if (node.proxy) {
    change = UpdateOf(*node.proxy);
  } else {
    change.name = node.node->name;
    change.node_uid = node.node->uid;
    change.spec.settings = state.target.settings;
  }
  // Also when it goes on with another's revision for now: that one can be deleted meanwhile.
  change.spec.configuration = name;
  change.spec.candidate = CandidateOf(state.target);
  change.asked_at = kube::FormatTime(now);
  return change;
}

NodeProxyChange Start(const NodeView& view, const Revision& revision,
                      const KubeProxyAddresses& answers_at, bool back, const std::string& name,
                      TimePoint now) {
  NodeProxyChange change = UpdateOf(*view.governed.proxy);
  change.spec.configuration = name;
  change.spec.revision = revision.number;
  change.spec.removed = false;
  change.spec.settings = revision.settings;
  change.spec.provider = revision.provider;
  change.spec.healthz_bind_address = answers_at.healthz;
  change.spec.metrics_bind_address = answers_at.metrics;
  change.updated_at = kube::FormatTime(now);
  change.event =
      PlannedEvent{false, back ? "NodeRollingBack" : "NodeUpdating",
                   "node " + view.name() + ": revision " + std::to_string(revision.number) + " (" +
                       std::string(kube::ToString(revision.settings.mode)) + ")"};
  return change;
}

}  // namespace

RolloutState Judge(const Group& group, const Revision& spec_revision,
                   const std::vector<Revision>& revisions, const KubeProxy& kube_proxy,
                   const KubeProxyProvider& provider, Sightings& sightings, TimePoint now) {
  const kube::ProxyConfiguration& configuration = *group.configuration;
  const kube::Rollout& rollout = configuration.spec.rollout;
  const kube::ProxyConfigurationStatus& status = configuration.status;
  RolloutState state;
  state.target = spec_revision;
  state.update_revision = spec_revision.number;
  state.paused = rollout.paused;

  // A decision to go back is kept in the status; any edit of the specification is a new try.
  const Revision* const found = spec_revision.provider == kube::Provider::kKubeProxy
                                    ? KubeProxyProvider::FindFound(configuration, revisions)
                                    : nullptr;
  if (found != nullptr) state.found_revision = found->number;
  // Before the first change kube-proxy served, too.
  const int64_t current =
      status.current_revision != 0 ? status.current_revision : state.found_revision;
  const Revision* const last_good = current != spec_revision.number
                                        ? FindRevision(revisions, configuration.uid, current)
                                        : nullptr;
  const kube::Condition* decision = FindCondition(status.conditions, "RolledBack");
  if (decision != nullptr && decision->status == kube::ConditionStatus::kTrue &&
      decision->observed_generation == configuration.generation &&
      status.update_revision == spec_revision.number && last_good != nullptr) {
    state.rolled_back = true;
    state.target = *last_good;
  } else if (last_good != nullptr) {
    state.last_good = *last_good;
  }

  state.nodes.reserve(group.nodes.size());
  for (const GovernedNode& node : group.nodes) {
    state.nodes.push_back(LookAt(node, configuration, state.target, sightings, now));
    NodeView& view = state.nodes.back();
    LookAtKubeProxy(view, configuration, kube_proxy, sightings, now);
    LookAtBinding(view, state, configuration, provider, kube_proxy, sightings, now);
    if (view.available()) sightings.Available(view.governed.proxy->name);
  }
  state.leaving = group.leaving;
  state.without_agent = group.without_agent;
  state.max_unavailable =
      rollout.max_unavailable.Of(static_cast<int64_t>(group.nodes.size() + group.leaving.size()));

  const bool was_good = status.current_revision == state.target.number;
  bool begun = false;
  bool all_there = true;
  bool all_able = true;
  size_t available = 0;
  for (const NodeView& view : state.nodes) {
    begun = begun || view.at_target();
    all_able = all_able && view.stage != Stage::kUnable;
    if (!view.at_target()) ++state.pending;
    if (view.available()) ++available;
    const bool out_of_reach = !view.reachable && (!view.at_target() || view.order == Order::kLost ||
                                                  view.applied() || was_good);
    if ((!view.available() && !out_of_reach) || view.tripped) all_there = false;
    if (!view.failure.empty()) state.failed.push_back(&view);
    // Whose Node is not Ready is not waited for: it may never answer.
    if (!view.governed.node->ready) continue;
    if (view.stage == Stage::kSilent) state.agentless.push_back(&view);
    if (view.stage < Stage::kSilent) state.waiting.push_back(&view);
  }
  state.complete = all_there && available > 0;
  state.preflight_done = begun || state.waiting.empty() || state.rolled_back;
  // A kube-proxy has no other mode to fall back to, and its configuration is for all nodes.
  if (!begun && !state.rolled_back && !all_able && !was_good &&
      state.target.provider == kube::Provider::kKubeProxy)
    state.preflight_done = false;
  if (!state.rolled_back) JudgeCanary(state, rollout, now);
  state.roll_back_now = !state.failed.empty() && !state.rolled_back &&
                        rollout.on_failure == kube::OnFailure::kRollback && last_good != nullptr;
  return state;
}

namespace {

// How many nodes change, and how many do not serve, of those that count.
struct Load {
  int64_t changing = 0;
  int64_t unavailable = 0;
};

bool Counts(const NodeView& view) {
  return view.changing() && !view.costs_nothing;
}

Load CountLoad(const RolloutState& state) {
  Load load;
  for (const NodeView& view : state.nodes) {
    if (Counts(view) || view.exchanging()) ++load.changing;
    if (Counts(view) || view.outage == Outage::kRecent) ++load.unavailable;
  }
  return load;
}

// Nodes that no configuration wants and whose turn has come.
int64_t CountLeaving(const std::vector<GovernedNode>& leaving, const KubeProxy& kube_proxy,
                     const kube::ProxyConfiguration& of, Sightings& sightings, TimePoint now) {
  const seconds deadline = ceil<seconds>(of.spec.rollout.progress_deadline);
  std::optional<TimePoint> ignored;
  return std::count_if(leaving.begin(), leaving.end(), [&](const GovernedNode& node) {
    return node.proxy->spec.removed ||
           LookAtReturn(node, kube_proxy, deadline, sightings, now, ignored) == Return::kAwaited;
  });
}

KubeProxyAddresses AddressesOf(const Revision& revision) {
  return revision.provider == kube::Provider::kKubeProxy ? AddressesOfKubeProxyFile(revision.file)
                                                         : KubeProxyAddresses{};
}

// Takes nothing away when it changes, so that only the number of changing nodes is in its way.
bool OffAlready(const NodeView& view) {
  return view.changing() || view.down() || !view.governed.node->ready;
}

// Nodes that do not serve anyway go first: changing them takes nothing away. Those that are not
// Ready go last, since their agents may have died after they answered.
int Turn(const NodeView& view) {
  if (!view.governed.node->ready) return view.costs_nothing ? 0 : 2;
  return view.changing() || view.down() ? 0 : 1;
}

void StartNodes(RolloutState& state, const kube::ProxyConfiguration& configuration, bool was_good,
                bool held, Load& load, TimePoint now, std::vector<NodeProxyChange>& changes) {
  const kube::Canary& canary = configuration.spec.rollout.canary;
  std::vector<const NodeView*> startable;
  size_t canaries_begun = 0;
  for (const NodeView& view : state.nodes) {
    if (view.at_target() && IsCanary(view, canary) && view.order != Order::kLost) ++canaries_begun;
    if (MayStart(view, state) || GetsLastGood(view, state)) startable.push_back(&view);
  }
  std::stable_sort(startable.begin(), startable.end(),
                   [](const NodeView* a, const NodeView* b) { return Turn(*a) < Turn(*b); });
  if (startable.empty()) return;
  const KubeProxyAddresses at_target = AddressesOf(state.target);
  const KubeProxyAddresses at_last_good =
      state.last_good ? AddressesOf(*state.last_good) : KubeProxyAddresses{};
  for (const NodeView* view : startable) {
    // A node on which nothing runs loses nothing by being started, and can be a node that needs it
    // to come up: it gets what is known to be good, whatever becomes of the rollout.
    if (GetsLastGood(*view, state)) {
      changes.push_back(
          Start(*view, *state.last_good, at_last_good, false, configuration.name, now));
      ++state.starting;
      continue;
    }
    const bool newcomer = was_good && view->untouched && !view->must_restart;
    if (held && !newcomer) continue;
    const bool is_canary = IsCanary(*view, canary);
    if (!newcomer && !state.canary_done && (!is_canary || canaries_begun >= state.canaries))
      continue;
    if (!newcomer && !view->costs_nothing) {
      const bool counts = Counts(*view);
      if (load.changing - (counts ? 1 : 0) >= state.max_unavailable) continue;
      const bool off_already = OffAlready(*view);
      if (!off_already && load.unavailable >= state.max_unavailable) continue;
      if (!counts) ++load.changing;
      if (!off_already) ++load.unavailable;
    }
    if (is_canary) ++canaries_begun;
    changes.push_back(
        Start(*view, state.target, at_target, state.rolled_back, configuration.name, now));
    changes.back().spec.candidate.reset();
    ++state.starting;
  }
}

}  // namespace

Steps NextChanges(RolloutState& state, const kube::ProxyConfiguration& configuration,
                  const KubeProxy& kube_proxy, const KubeProxyProvider& provider,
                  Sightings& sightings, TimePoint now, std::optional<TimePoint>& wake_up) {
  Steps steps;
  for (const NodeView& view : state.nodes) {
    if (view.next) WakeAt(wake_up, *view.next);
  }
  Load load = CountLoad(state);
  if (state.roll_back_now) return steps;

  for (const NodeView& view : state.nodes) {
    // Going back needs no preflight (that revision ran there), but a new node needs its NodeProxy.
    if (view.stage == Stage::kNotAsked && (!state.rolled_back || !view.governed.proxy)) {
      steps.changes.push_back(Ask(view.governed, state, configuration.name, now));
    }
  }
  for (const Group::WithoutAgent& other : state.without_agent) {
    const kube::NodeProxy* proxy = other.node.proxy.get();
    const bool asked = proxy != nullptr && proxy->spec.candidate == CandidateOf(state.target) &&
                       proxy->spec.configuration == configuration.name;
    if (!other.reason.impossible && !asked) {
      steps.changes.push_back(Ask(other.node, state, configuration.name, now));
    }
  }
  const int64_t leaving = CountLeaving(state.leaving, kube_proxy, configuration, sightings, now);
  load.changing += leaving;
  load.unavailable += leaving;
  // Once a revision has been good everywhere, one bad node is that node's trouble and must not keep
  // the others back.
  const bool was_good = configuration.status.current_revision == state.target.number;
  const bool stopped = !state.failed.empty() && !state.rolled_back && !was_good;
  const bool held = !state.preflight_done || state.paused || stopped;
  // A node is done with before the next one begins.
  if (!state.paused && !stopped) {
    int64_t room = state.max_unavailable - load.changing;
    steps.labels = NextLabels(state, configuration, kube_proxy, room);
    load.changing = state.max_unavailable - room;
  }
  // What was begun is brought to its end, paused or not.
  for (NodeLabelChange& change : NextBindings(state, provider, kube_proxy))
    steps.labels.push_back(std::move(change));
  StartNodes(state, configuration, was_good, held, load, now, steps.changes);
  if (!state.paused) {
    // The nodes being removed count in `changing` already; NextRemovals counts them itself.
    Steps removals = NextRemovals(state.leaving, state.max_unavailable - (load.changing - leaving),
                                  ceil<seconds>(configuration.spec.rollout.progress_deadline),
                                  kube_proxy, sightings, now, wake_up);
    std::move(removals.changes.begin(), removals.changes.end(), std::back_inserter(steps.changes));
    std::move(removals.labels.begin(), removals.labels.end(), std::back_inserter(steps.labels));
    steps.awaited = std::move(removals.awaited);
    steps.returning = removals.returning;
  }
  for (NodeProxyChange& change : NextCleanings(state, steps.changes))
    steps.changes.push_back(std::move(change));
  return steps;
}

Steps NextRemovals(const std::vector<GovernedNode>& leaving, int64_t budget, seconds deadline,
                   const KubeProxy& kube_proxy, Sightings& sightings, TimePoint now,
                   std::optional<TimePoint>& wake_up) {
  Steps steps;
  const auto erase = [&](const kube::NodeProxy& proxy, std::optional<PlannedEvent> event) {
    NodeProxyChange change = UpdateOf(proxy);
    change.kind = NodeProxyChange::Kind::kDelete;
    change.event = std::move(event);
    steps.changes.push_back(std::move(change));
  };
  std::vector<const GovernedNode*> back;   // into the DaemonSet
  std::vector<const GovernedNode*> ready;  // for ours to be removed
  for (const GovernedNode& node : leaving) {
    const kube::NodeProxy& proxy = *node.proxy;
    if (proxy.deleting) continue;
    if (!proxy.spec.removed) {
      const Return state = LookAtReturn(node, kube_proxy, deadline, sightings, now, wake_up);
      if (state == Return::kLabel) back.push_back(&node);
      if (state == Return::kLabelNow) {
        --budget;
        steps.labels.push_back(LabelChange(*node.node, false));
      }
      if (state == Return::kTell) {
        steps.changes.push_back(UpdateOf(proxy));
        steps.changes.back().spec.remove_kube_proxy = false;
      }
      if (state == Return::kDone) ready.push_back(&node);
      if (state == Return::kAwaited) {
        steps.returning = true;
        --budget;
      }
      if (state == Return::kAwaited || state == Return::kStuck) steps.awaited.push_back(proxy.name);
      continue;
    }
    const bool off = proxy.status.observed_generation >= proxy.generation &&
                     proxy.status.active_mode.empty() && proxy.status.draining_mode.empty();
    const TimePoint since = sightings.Of(proxy.name).changed;
    if (off) {
      erase(proxy, PlannedEvent{false, "NodeRemoved",
                                "node " + proxy.name + ": rules removed from the kernel"});
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
  for (const GovernedNode* node : ready) {
    const kube::NodeProxy& proxy = *node->proxy;
    if (proxy.spec.revision == 0 && proxy.status.active_mode.empty()) {
      erase(proxy, std::nullopt);  // nothing was ever asked of it
      continue;
    }
    if (budget <= 0) continue;
    --budget;
    NodeProxyChange change = UpdateOf(proxy);
    change.spec.removed = true;
    change.spec.candidate.reset();
    change.updated_at = kube::FormatTime(now);
    change.event =
        PlannedEvent{false, "NodeRemoving", "node " + proxy.name + ": removing its rules"};
    steps.changes.push_back(std::move(change));
  }
  for (const GovernedNode* node : back) {
    if (budget <= 0) break;
    --budget;
    steps.labels.push_back(LabelChange(*node->node, false));
  }
  return steps;
}

}  // namespace pointsman::op
