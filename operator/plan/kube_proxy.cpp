#include "operator/plan/kube_proxy.h"

#include <algorithm>

#include "operator/plan/wake_up.h"

namespace pointsman::op {
namespace {

using kube::TimePoint;

// By which the Pods of kube-proxies are found (input.h).
bool CanSeePods(const KubeProxyDaemonSet& set) {
  return std::any_of(kKubeProxyPodLabels.begin(), kKubeProxyPodLabels.end(), [&](const char* key) {
    const auto label = set.pod_labels.find(key);
    return label != set.pod_labels.end() && label->second == kKubeProxyPodLabel;
  });
}

}  // namespace

KubeProxy::KubeProxy(const PlanInput& input, Sightings& sightings, TimePoint now)
    : input_(input), sightings_(sightings), now_(now), unknown_(input.kube_proxy.unknown) {
  for (const auto& node : input.nodes) {
    any_replaced_ = any_replaced_ || IsReplaced(*node);
    any_bound_ = any_bound_ || !BoundTo(*node).empty();
  }
  if (!known()) return;
  const auto& set = input.kube_proxy.daemon_set;
  if (set && !set->deleting) {
    set_ = set.get();
    leaves_out_ = LeavesOutReplaced(*set_);
    changed_ = IsChanged(*set_);
    if (!CanSeePods(*set_)) {
      unknown_ = "the Pods of DaemonSet " + name() + " have neither label " +
                 kKubeProxyPodLabels[0] + "=" + kKubeProxyPodLabel + " nor " +
                 kKubeProxyPodLabels[1] + "=" + kKubeProxyPodLabel +
                 ", so it cannot be seen where they are";
    }
  }
  sightings_.SeeDaemonSet(leaves_out_);
  for (const auto& pod : input.kube_proxy.pods) {
    if (!pod->over && !pod->node_name.empty()) pods_[pod->node_name].push_back(pod.get());
  }
}

bool KubeProxy::IsOfDaemonSet(const kube::Pod& pod) const {
  return set_ != nullptr && pod.controller_uid == set_->uid;
}

bool KubeProxy::IsFor(const kube::Node& node) const {
  if (set_ == nullptr) return false;
  kube::Node bare = node;
  bare.labels.erase(kKubeProxyLabel);
  bare.labels.erase(kRevisionLabel);
  return set_->placement.WhyNot(bare).empty();
}

KubeProxy::OnNode KubeProxy::On(const kube::Node& node, std::optional<TimePoint>& wake_up) const {
  OnNode on;
  on.taken_off = IsReplaced(node);
  on.bound = BoundTo(node);
  on.selected = set_ != nullptr && set_->placement.WhyNot(node).empty();
  const auto found = pods_.find(node.name);
  if (found == pods_.end()) return on;
  for (const kube::Pod* pod : found->second) {
    const bool own = IsOfDaemonSet(*pod);
    const auto label = pod->labels.find(kRevisionLabel);
    // Also one whose DaemonSet has gone already, or lets it go to the cluster's own.
    const bool of_revision = !own && label != pod->labels.end();
    if (!own && !of_revision) {
      on.without_api = pod->name;
      on.without_api_is_mirror = pod->mirror;
      continue;
    }
    bool settled = false;
    if (pod->ready && !pod->deleting) {
      const TimePoint since = sightings_.Since("kube-proxy ready " + pod->uid) + kSettles;
      settled = since <= now_;
      if (!settled) WakeAt(wake_up, since);
    }
    if (own) {
      on.pod = pod->name;
      on.settled = on.settled || settled;
      on.pod_ready = on.pod_ready || (pod->ready && !pod->deleting);
    } else if (label->second == on.bound) {
      on.revision_pod = pod->name;
      on.revision_settled = on.revision_settled || settled;
    } else {
      on.other_revision_pod = pod->name;
    }
  }
  return on;
}

// Pods of its own on nodes with the label would end at once, all of them: the label is taken off
// first, and the DaemonSet controller is given the time to see that (it watches Nodes and
// DaemonSets apart).
bool KubeProxy::MayLeaveOut(std::optional<TimePoint>& wake_up) const {
  bool adopted = false;
  for (const auto& pod : input_.kube_proxy.pods)
    adopted = adopted || (IsOfDaemonSet(*pod) && pod->labels.contains(kRevisionLabel));
  for (const auto& node : input_.nodes) {
    const std::string bound = BoundTo(*node);
    if (bound.empty()) continue;
    const auto& sets = input_.kube_proxy.revision_sets;
    const bool has_set = std::any_of(sets.begin(), sets.end(), [&](const auto& set) {
      return set->revision == bound && !set->deleting;
    });
    if (!has_set) return false;
  }
  if (!adopted || any_bound_) return true;
  const TimePoint seen = sightings_.Since("no node is bound") + kSettles;
  if (seen > now_) WakeAt(wake_up, seen);
  return seen <= now_;
}

std::optional<DaemonSetChange> KubeProxy::Change(bool wanted,
                                                 std::optional<TimePoint>& wake_up) const {
  if (!known() || set_ == nullptr) return std::nullopt;
  if (wanted && !leaves_out_) {
    if (!MayLeaveOut(wake_up)) return std::nullopt;
    if (const TimePoint due = sightings_.DaemonSetDue(); now_ < due) {
      WakeAt(wake_up, due);
      return std::nullopt;
    }
  }
  DaemonSetChange change;
  change.patch = wanted ? PatchToLeaveOutReplaced(*set_) : PatchToRestore(*set_);
  if (change.patch.empty()) return std::nullopt;
  if (wanted) sightings_.ChangeDaemonSet();
  change.name = set_->name;
  change.uid = set_->uid;
  change.resource_version = set_->resource_version;
  change.what = wanted ? std::string("leaves out nodes with the labels ") + kKubeProxyLabel + "=" +
                             kReplaced + " and " + kRevisionLabel
                       : "is again as it was before";
  return change;
}

NodeLabelChange LabelChange(const kube::Node& node, bool replaced) {
  NodeLabelChange change{
      .name = node.name,
      .uid = node.uid,
      .labels = {},
      .event =
          PlannedEvent{false, replaced ? "KubeProxyTakenOff" : "KubeProxyReturns",
                       "node " + node.name +
                           (replaced ? ": served by Pointsman, so it leaves kube-proxy's DaemonSet"
                                     : ": given back to kube-proxy's DaemonSet")}};
  if (replaced || node.labels.contains(kKubeProxyLabel))
    change.labels[kKubeProxyLabel] = replaced ? kReplaced : "";
  if (!replaced && node.labels.contains(kRevisionLabel)) change.labels[kRevisionLabel] = "";
  return change;
}

NodeLabelChange BindingChange(const kube::Node& node, const std::string& revision) {
  const std::string what = revision.empty() ? "what the cluster's own configuration says"
                                            : "the configuration of revision " + revision;
  return {.name = node.name,
          .uid = node.uid,
          .labels = {{kRevisionLabel, revision}},
          .event = PlannedEvent{false, "KubeProxyRestarts",
                                "node " + node.name + ": kube-proxy restarts with " + what}};
}

}  // namespace pointsman::op
