#include "operator/plan/kube_proxy.h"

#include <algorithm>

namespace pointsman::op {
namespace {

using kube::TimePoint;

void WakeAt(std::optional<TimePoint>& wake_up, TimePoint when) {
  wake_up = wake_up ? std::min(*wake_up, when) : when;
}

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
  any_taken_off_ = std::any_of(input.nodes.begin(), input.nodes.end(),
                               [](const auto& node) { return IsReplaced(*node); });
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

KubeProxy::OnNode KubeProxy::On(const kube::Node& node, std::optional<TimePoint>& wake_up) const {
  OnNode on;
  on.taken_off = IsReplaced(node);
  on.selected = set_ != nullptr && set_->placement.WhyNot(node).empty();
  const auto found = pods_.find(node.name);
  if (found == pods_.end()) return on;
  for (const kube::Pod* pod : found->second) {
    if (!IsOfDaemonSet(*pod)) {
      on.without_api = pod->name;
      on.without_api_is_mirror = pod->mirror;
      continue;
    }
    on.pod = pod->name;
    if (!pod->ready || pod->deleting) continue;
    const TimePoint settled = sightings_.Since("kube-proxy ready " + pod->uid) + kSettles;
    if (settled <= now_) {
      on.settled = true;
    } else {
      WakeAt(wake_up, settled);
    }
  }
  return on;
}

std::optional<DaemonSetChange> KubeProxy::Change(bool wanted,
                                                 std::optional<TimePoint>& wake_up) const {
  if (!known() || set_ == nullptr) return std::nullopt;
  if (wanted && !leaves_out_) {
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
  change.what =
      wanted ? std::string("leaves out nodes with the label ") + kKubeProxyLabel + "=" + kReplaced
             : "is again as it was before";
  return change;
}

NodeLabelChange LabelChange(const kube::Node& node, bool replaced) {
  return {.name = node.name,
          .uid = node.uid,
          .replaced = replaced,
          .event = PlannedEvent{
              false, replaced ? "KubeProxyTakenOff" : "KubeProxyReturns",
              "node " + node.name +
                  (replaced ? ": served by Pointsman, so it leaves kube-proxy's DaemonSet"
                            : ": given back to kube-proxy's DaemonSet")}};
}

}  // namespace pointsman::op
