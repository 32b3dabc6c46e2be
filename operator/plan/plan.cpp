#include "operator/plan/plan.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>
#include <unordered_set>

#include "kube/pointsman/limits.h"
#include "operator/plan/assignment.h"
#include "operator/plan/kube_proxy.h"
#include "operator/plan/kube_proxy_provider.h"
#include "operator/plan/provider_rollout.h"
#include "operator/plan/rollout.h"
#include "operator/plan/status.h"

namespace pointsman::op {
namespace {

using kube::ProxyConfiguration;
using std::chrono::ceil;
using std::chrono::seconds;

// Numbers that mean something already. Only what the operator itself has written counts: what an
// agent says it has seen is that agent's word.
class Numbers {
 public:
  explicit Numbers(const PlanInput& input) {
    for (const Revision& revision : input.revisions)
      Take(revision.number);
    for (const auto& proxy : input.node_proxies) {
      Take(proxy->spec.revision);
      if (proxy->spec.candidate) Take(proxy->spec.candidate->revision);
    }
    for (const auto& configuration : input.configurations) {
      Take(configuration->status.current_revision);
      Take(configuration->status.update_revision);
    }
  }
  // Greater than all of them, so that a number never means two things to an agent. If a person has
  // used up the greatest, the least that is free.
  int64_t Next() {
    const int64_t most = taken_.empty() ? 0 : *taken_.rbegin();
    int64_t next = most + 1;
    if (most >= kube::limits::kMaxRevision) {
      next = 1;
      while (taken_.contains(next))
        ++next;
    }
    Take(next);
    return next;
  }

 private:
  void Take(int64_t number) {
    if (number > 0 && number <= kube::limits::kMaxRevision) taken_.insert(number);
  }
  std::set<int64_t> taken_;
};

bool HasFinalizer(const ProxyConfiguration& configuration) {
  return std::find(configuration.finalizers.begin(), configuration.finalizers.end(),
                   kube::kFinalizer) != configuration.finalizers.end();
}

// The revision that the specification stands for; nullptr: not written down yet.
const Revision* SpecRevision(const ProxyConfiguration& configuration,
                             const std::vector<Revision>& revisions) {
  const auto& rollback_to = configuration.spec.rollout.rollback_to;
  const kube::ProxySettings settings = SettingsOf(configuration);
  for (const Revision& revision : revisions) {
    if (revision.owner_uid != configuration.uid) continue;
    const bool same = !revision.found && revision.provider == configuration.spec.provider &&
                      revision.settings == settings;
    if (rollback_to ? revision.number == *rollback_to : same) return &revision;
  }
  return nullptr;
}

// The oldest beyond the limit, but none that is still of use.
std::vector<std::string> OldRevisions(const PlanInput& input, const ProxyConfiguration& of,
                                      const kube::ProxyConfigurationStatus& status) {
  std::set<int64_t> in_use = {status.current_revision, status.update_revision};
  for (const auto& proxy : input.node_proxies)
    in_use.insert(proxy->spec.revision);
  for (const auto& node : input.nodes) {
    if (const auto number = RevisionNumber(BoundTo(*node))) in_use.insert(*number);
  }
  std::vector<const Revision*> old;
  for (const Revision& revision : input.revisions) {
    const bool used = in_use.contains(revision.number) || revision.found;
    if (revision.owner_uid == of.uid && !used) old.push_back(&revision);
  }
  std::sort(old.begin(), old.end(),
            [](const Revision* a, const Revision* b) { return a->number > b->number; });
  std::vector<std::string> names;
  for (auto i = static_cast<size_t>(of.spec.rollout.revision_history_limit); i < old.size(); ++i) {
    names.push_back(old[i]->name);
  }
  return names;
}

// What all configurations together ask of the cluster's kube-proxy.
struct KubeProxyWish {
  bool out = false;   // a configuration takes nodes over, or an invalid one has taken some
  bool turn = false;  // a node's turn has come to leave the DaemonSet
  bool back = false;  // a node has got back into it, and is waited for
  // With provider KubeProxy: revisions for which nodes are to be bound; and the one that becomes
  // the cluster's own, for which the DaemonSet is as it was.
  std::set<int64_t> prepare;
  std::optional<int64_t> write_back;
};

bool IsOut(const GovernedNode& node) {
  return IsReplaced(*node.node) || !BoundTo(*node.node).empty();
}

bool TakesOver(const Group& group) {
  if (group.configuration->deleting) return false;
  const bool configured = group.configuration->spec.provider == kube::Provider::kKubeProxy;
  if (!group.rejected_reason.empty() || configured)
    return std::any_of(group.nodes.begin(), group.nodes.end(), IsOut);
  return group.configuration->spec.kube_proxy == kube::KubeProxyPolicy::kTakeOver &&
         !group.nodes.empty();
}

// The nodes out of the DaemonSet that nobody has taken over: their configuration and their
// NodeProxy went without the operator, or their agent.
std::vector<NodeLabelChange> StrayLabels(const PlanInput& input, const Assignment& assignment) {
  std::unordered_set<std::string_view> known;
  const auto add = [&](const std::vector<GovernedNode>& nodes) {
    for (const GovernedNode& node : nodes)
      known.insert(node.node->name);
  };
  for (const Group& group : assignment.groups) {
    add(group.nodes);
    add(group.leaving);
  }
  add(assignment.without_configuration);
  std::vector<NodeLabelChange> labels;
  for (const auto& node : input.nodes) {
    const bool out = IsReplaced(*node) || !BoundTo(*node).empty();
    if (out && !known.contains(node->name)) labels.push_back(LabelChange(*node, false));
  }
  return labels;
}

std::optional<DaemonSetChange> PlanDaemonSet(const KubeProxy& kube_proxy, const KubeProxyWish& wish,
                                             std::optional<kube::TimePoint>& wake_up) {
  const bool out = kube_proxy.any_taken_off();
  if (wish.write_back && !wish.turn && !kube_proxy.any_replaced())
    return kube_proxy.Change(false, wake_up);
  if (wish.turn || (out && wish.out)) return kube_proxy.Change(true, wake_up);
  if (out || wish.out || wish.back || !kube_proxy.changed()) return std::nullopt;
  return kube_proxy.Change(false, wake_up);
}

// What one pass has in hand.
struct Pass {
  const PlanInput& input;
  Sightings& sightings;
  const KubeProxy& kube_proxy;
  const KubeProxyProvider& provider;
  Numbers numbers;
  KubeProxyWish wish;
  std::vector<KubeProxyObjectChange>& objects;
  std::optional<kube::TimePoint>& wake_up;
};

void PlanRemoval(const Group& group, Pass& pass, ConfigurationPlan& plan) {
  const ProxyConfiguration& configuration = *group.configuration;
  if (!HasFinalizer(configuration)) {
    plan.status = configuration.status;
    return;
  }
  // Counts also the nodes that another configuration has won but not taken over yet.
  size_t left = 0;
  for (const auto& proxy : pass.input.node_proxies) {
    if (proxy->spec.configuration == configuration.name) ++left;
  }
  const kube::Rollout& rollout = configuration.spec.rollout;
  const int64_t budget =
      rollout.max_unavailable.Of(static_cast<int64_t>(std::max<size_t>(left, 1)));
  Steps steps = NextRemovals(group.leaving, budget, ceil<seconds>(rollout.progress_deadline),
                             pass.kube_proxy, pass.sightings, pass.input.now, pass.wake_up);
  plan.changes = std::move(steps.changes);
  plan.labels = std::move(steps.labels);
  pass.wish.back |= steps.returning;
  // Who waits for the deletion may take the operator away next.
  const bool kube_proxy_is_back =
      pass.wish.out || !(pass.kube_proxy.changed() || pass.kube_proxy.any_taken_off() ||
                         !pass.input.kube_proxy.revision_sets.empty());
  plan.remove_finalizer = left == 0 && kube_proxy_is_back;
  plan.status = RemovingStatus(group, left, steps.awaited, pass.input.now);
}

void PlanRollout(const Group& group, Pass& pass, ConfigurationPlan& plan) {
  const ProxyConfiguration& configuration = *group.configuration;
  const PlanInput& input = pass.input;
  // One with a number that cannot be used has the name that another of these settings would get.
  for (const Revision& revision : input.revisions) {
    if (revision.owner_uid == configuration.uid && revision.number > kube::limits::kMaxRevision) {
      plan.delete_revisions.push_back(revision.name);
    }
  }
  if (!plan.delete_revisions.empty()) {
    plan.status = PendingStatus(group, input.now);
    return;
  }
  // Before anything that would have to be cleaned up.
  plan.add_finalizer = !HasFinalizer(configuration);
  const Revision* revision = SpecRevision(configuration, input.revisions);
  const bool configured = configuration.spec.provider == kube::Provider::kKubeProxy;
  const bool look =
      configured && KubeProxyProvider::FindFound(configuration, input.revisions) == nullptr;
  if (look) {
    plan.create_revision = pass.provider.Found(configuration, pass.numbers.Next());
  } else if (revision == nullptr) {
    plan.create_revision =
        configured ? pass.provider.Render(configuration, pass.numbers.Next())
                   : MakeRevision(configuration, configuration.spec.settings, pass.numbers.Next());
  }
  if (plan.create_revision || plan.add_finalizer) {
    plan.status = PendingStatus(group, input.now);
    return;
  }
  RolloutState state = Judge(group, *revision, input.revisions, pass.kube_proxy, pass.provider,
                             pass.sightings, input.now);
  Steps steps = NextChanges(state, configuration, pass.kube_proxy, pass.provider, pass.sightings,
                            input.now, pass.wake_up);
  WriteBack back = PlanWriteBack(input, state, configuration, pass.provider, pass.kube_proxy);
  state.writing_back = back.pending;
  state.write_back_note = std::move(back.note);
  std::move(back.objects.begin(), back.objects.end(), std::back_inserter(pass.objects));
  if (back.ours) pass.wish.write_back = state.target.number;
  if (state.prepare) pass.wish.prepare.insert(state.target.number);
  plan.changes = std::move(steps.changes);
  plan.labels = std::move(steps.labels);
  pass.wish.turn |= state.turn;
  pass.wish.back |= steps.returning;
  pass.wish.back |= std::any_of(state.nodes.begin(), state.nodes.end(), [](const NodeView& view) {
    return view.takeover == Takeover::kReturning;
  });
  plan.status = StatusOf(group, state, pass.kube_proxy, input.now);
  plan.delete_revisions = OldRevisions(input, configuration, plan.status);
}

// Of what is rolled out, which may be another revision's than the specification's (rollbackTo).
kube::Mode ModeOf(const ConfigurationPlan& part, const std::vector<Revision>& revisions) {
  const int64_t number = part.status.update_revision;
  if (part.create_revision && part.create_revision->number == number)
    return part.create_revision->settings.mode;
  const auto found =
      std::find_if(revisions.begin(), revisions.end(),
                   [number](const Revision& revision) { return revision.number == number; });
  return found == revisions.end() ? part.configuration->spec.settings.mode : found->settings.mode;
}

}  // namespace

Plan MakePlan(const PlanInput& input, Sightings& sightings) {
  Plan plan;
  sightings.Begin(input.now, input.instant);
  for (const auto& proxy : input.node_proxies)
    sightings.See(*proxy);
  sightings.End();
  const Assignment assignment = Assign(input, plan.wake_up);
  const KubeProxy kube_proxy(input, sightings, input.now);
  const KubeProxyProvider provider(input);
  Pass pass{.input = input,
            .sightings = sightings,
            .kube_proxy = kube_proxy,
            .provider = provider,
            .numbers = Numbers(input),
            .wish = {},
            .objects = plan.kube_proxy_objects,
            .wake_up = plan.wake_up};
  pass.wish.out = std::any_of(assignment.groups.begin(), assignment.groups.end(), TakesOver);
  for (const Group& group : assignment.groups) {
    ConfigurationPlan& part = plan.configurations.emplace_back();
    part.configuration = group.configuration;
    if (group.configuration->deleting) {
      PlanRemoval(group, pass, part);
    } else if (!group.rejected_reason.empty()) {
      part.status = RejectedStatus(group, input.now);
    } else {
      PlanRollout(group, pass, part);
    }
    part.events = EventsOf(*group.configuration, part.status, ModeOf(part, input.revisions));
  }
  // A ProxyConfiguration that went without its finalizer left these: take the rules off with the
  // defaults' care.
  const kube::Rollout defaults;
  Steps orphans =
      NextRemovals(assignment.without_configuration, 1, ceil<seconds>(defaults.progress_deadline),
                   kube_proxy, sightings, input.now, plan.wake_up);
  plan.orphans = std::move(orphans.changes);
  plan.labels = std::move(orphans.labels);
  for (const auto& proxy : assignment.without_node) {
    if (proxy->deleting) continue;
    NodeProxyChange& change = plan.orphans.emplace_back();
    change.kind = NodeProxyChange::Kind::kDelete;
    change.name = proxy->name;
    change.uid = proxy->uid;
    change.resource_version = proxy->resource_version;
  }
  if (kube_proxy.any_taken_off()) {
    for (NodeLabelChange& stray : StrayLabels(input, assignment))
      plan.labels.push_back(std::move(stray));
    for (NodeLabelChange& stale :
         StaleBindings(input, provider, kube_proxy, sightings, plan.wake_up))
      plan.labels.push_back(std::move(stale));
  }
  for (KubeProxyObjectChange& change :
       PlanRevisionObjects(input, provider, kube_proxy, pass.wish.prepare, pass.wish.write_back))
    plan.kube_proxy_objects.push_back(std::move(change));
  plan.daemon_set = PlanDaemonSet(kube_proxy, pass.wish, plan.wake_up);
  return plan;
}

}  // namespace pointsman::op
