#include "operator/plan/plan.h"

#include <algorithm>

#include "kube/pointsman/limits.h"
#include "operator/plan/assignment.h"
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
  for (const Revision& revision : revisions) {
    if (revision.owner_uid != configuration.uid) continue;
    if (rollback_to ? revision.number == *rollback_to
                    : revision.settings == configuration.spec.settings) {
      return &revision;
    }
  }
  return nullptr;
}

// The oldest beyond the limit, but none that is still of use.
std::vector<std::string> OldRevisions(const PlanInput& input, const ProxyConfiguration& of,
                                      const kube::ProxyConfigurationStatus& status) {
  std::set<int64_t> in_use = {status.current_revision, status.update_revision};
  for (const auto& proxy : input.node_proxies)
    in_use.insert(proxy->spec.revision);
  std::vector<const Revision*> old;
  for (const Revision& revision : input.revisions) {
    if (revision.owner_uid == of.uid && !in_use.contains(revision.number)) old.push_back(&revision);
  }
  std::sort(old.begin(), old.end(),
            [](const Revision* a, const Revision* b) { return a->number > b->number; });
  std::vector<std::string> names;
  for (auto i = static_cast<size_t>(of.spec.rollout.revision_history_limit); i < old.size(); ++i) {
    names.push_back(old[i]->name);
  }
  return names;
}

void PlanRemoval(const Group& group, const PlanInput& input, const Sightings& sightings,
                 ConfigurationPlan& plan, std::optional<kube::TimePoint>& wake_up) {
  const ProxyConfiguration& configuration = *group.configuration;
  if (!HasFinalizer(configuration)) {
    plan.status = configuration.status;
    return;
  }
  // Counts also the nodes that another configuration has won but not taken over yet.
  size_t left = 0;
  for (const auto& proxy : input.node_proxies) {
    if (proxy->spec.configuration == configuration.name) ++left;
  }
  const kube::Rollout& rollout = configuration.spec.rollout;
  const int64_t budget =
      rollout.max_unavailable.Of(static_cast<int64_t>(std::max<size_t>(left, 1)));
  plan.changes = NextRemovals(group.leaving, budget, ceil<seconds>(rollout.progress_deadline),
                              sightings, input.now, wake_up);
  plan.remove_finalizer = left == 0;
  plan.status = RemovingStatus(group, left, input.now);
}

void PlanRollout(const Group& group, const PlanInput& input, Sightings& sightings, Numbers& numbers,
                 ConfigurationPlan& plan, std::optional<kube::TimePoint>& wake_up) {
  const ProxyConfiguration& configuration = *group.configuration;
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
  if (revision == nullptr) {
    plan.create_revision = MakeRevision(configuration, configuration.spec.settings, numbers.Next());
  }
  if (revision == nullptr || plan.add_finalizer) {
    plan.status = PendingStatus(group, input.now);
    return;
  }
  RolloutState state = Judge(group, *revision, input.revisions, sightings, input.now);
  plan.changes = NextChanges(state, configuration, sightings, input.now, wake_up);
  plan.status = StatusOf(group, state, input.now);
  plan.delete_revisions = OldRevisions(input, configuration, plan.status);
}

}  // namespace

Plan MakePlan(const PlanInput& input, Sightings& sightings) {
  Plan plan;
  sightings.Begin(input.now, input.instant);
  for (const auto& proxy : input.node_proxies)
    sightings.See(*proxy);
  sightings.End();
  const Assignment assignment = Assign(input, plan.wake_up);
  Numbers numbers(input);
  for (const Group& group : assignment.groups) {
    ConfigurationPlan& part = plan.configurations.emplace_back();
    part.configuration = group.configuration;
    if (group.configuration->deleting) {
      PlanRemoval(group, input, sightings, part, plan.wake_up);
    } else if (!group.rejected_reason.empty()) {
      part.status = RejectedStatus(group, input.now);
    } else {
      PlanRollout(group, input, sightings, numbers, part, plan.wake_up);
    }
    part.events = EventsOf(*group.configuration, part.status);
  }
  // A ProxyConfiguration that went without its finalizer left these: take the rules off with the
  // defaults' care.
  const kube::Rollout defaults;
  plan.orphans =
      NextRemovals(assignment.without_configuration, 1, ceil<seconds>(defaults.progress_deadline),
                   sightings, input.now, plan.wake_up);
  for (const auto& proxy : assignment.without_node) {
    if (proxy->deleting) continue;
    NodeProxyChange& change = plan.orphans.emplace_back();
    change.kind = NodeProxyChange::Kind::kDelete;
    change.name = proxy->name;
    change.uid = proxy->uid;
    change.resource_version = proxy->resource_version;
  }
  return plan;
}

}  // namespace pointsman::op
