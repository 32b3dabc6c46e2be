#include "operator/plan/plan.h"

#include <algorithm>

#include "operator/plan/assignment.h"
#include "operator/plan/rollout.h"
#include "operator/plan/status.h"

namespace pointsman::op {
namespace {

using kube::ProxyConfiguration;
using std::chrono::ceil;
using std::chrono::seconds;

// Greater than every number that was ever seen: a number never means two things to an agent.
int64_t NextNumber(const PlanInput& input) {
  int64_t most = 0;
  for (const Revision& revision : input.revisions)
    most = std::max(most, revision.number);
  for (const auto& proxy : input.node_proxies) {
    most = std::max({most, proxy->spec.revision, proxy->status.observed_revision,
                     proxy->spec.candidate ? proxy->spec.candidate->revision : 0,
                     proxy->status.candidate ? proxy->status.candidate->revision : 0});
  }
  for (const auto& configuration : input.configurations) {
    most = std::max(
        {most, configuration->status.current_revision, configuration->status.update_revision});
  }
  return most + 1;
}

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

void PlanRemoval(const Group& group, const PlanInput& input, ConfigurationPlan& plan,
                 std::optional<kube::TimePoint>& wake_up) {
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
                              input.now, wake_up);
  plan.remove_finalizer = left == 0;
  plan.status = RemovingStatus(group, left, input.now);
}

void PlanRollout(const Group& group, const PlanInput& input, int64_t& next_number,
                 ConfigurationPlan& plan, std::optional<kube::TimePoint>& wake_up) {
  const ProxyConfiguration& configuration = *group.configuration;
  // Before anything that would have to be cleaned up.
  plan.add_finalizer = !HasFinalizer(configuration);
  const Revision* revision = SpecRevision(configuration, input.revisions);
  if (revision == nullptr) {
    plan.create_revision = MakeRevision(configuration, configuration.spec.settings, next_number++);
  }
  if (revision == nullptr || plan.add_finalizer) {
    plan.status = PendingStatus(group, input.now);
    return;
  }
  RolloutState state = Judge(group, *revision, input.revisions, input.now);
  plan.changes = NextChanges(state, configuration, input.now, wake_up);
  plan.status = StatusOf(group, state, input.now);
  plan.delete_revisions = OldRevisions(input, configuration, plan.status);
}

}  // namespace

Plan MakePlan(const PlanInput& input) {
  Plan plan;
  const Assignment assignment = Assign(input);
  int64_t next_number = NextNumber(input);
  for (const Group& group : assignment.groups) {
    ConfigurationPlan& part = plan.configurations.emplace_back();
    part.configuration = group.configuration;
    if (group.configuration->deleting) {
      PlanRemoval(group, input, part, plan.wake_up);
    } else if (!group.rejected_reason.empty()) {
      part.status = RejectedStatus(group, input.now);
    } else {
      PlanRollout(group, input, next_number, part, plan.wake_up);
    }
    part.events = EventsOf(*group.configuration, part.status);
  }
  // A ProxyConfiguration that went without its finalizer left these: take the rules off with the
  // defaults' care.
  const kube::Rollout defaults;
  plan.orphans = NextRemovals(assignment.without_configuration, 1,
                              ceil<seconds>(defaults.progress_deadline), input.now, plan.wake_up);
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
