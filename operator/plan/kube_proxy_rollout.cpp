#include "operator/plan/kube_proxy_rollout.h"

#include <algorithm>

namespace pointsman::op {
namespace {

using kube::TimePoint;
using std::chrono::ceil;
using std::chrono::seconds;

bool Reached(std::optional<TimePoint>& next, TimePoint when, TimePoint now) {
  if (when <= now) return true;
  next = next ? std::min(*next, when) : when;
  return false;
}

std::string WhyNotByTheApi(const KubeProxy::OnNode& on) {
  if (on.without_api_is_mirror) {
    return "Pod " + on.without_api +
           " is a static Pod: to have it gone, take its manifest out of the kubelet's directory on "
           "the node, or turn kube-proxy off where the distribution is configured";
  }
  return "Pod " + on.without_api + " is of no DaemonSet that the operator knows";
}

void LookAtWanted(NodeView& view, const KubeProxy::OnNode& on, const KubeProxy& kube_proxy,
                  seconds deadline, Sightings& sightings, TimePoint now) {
  const std::string& uid = view.governed.node->uid;
  if (!on.without_api.empty()) {
    view.takeover = Takeover::kCannot;
    view.takeover_note = WhyNotByTheApi(on);
  } else if (!on.taken_off && (on.selected || !on.pod.empty())) {
    view.takeover = Takeover::kPending;
  } else if (on.pod.empty()) {
    view.takeover = Takeover::kDone;
    if (on.taken_off) view.taken_over_since = sightings.Since("taken over " + uid);
  } else {
    const TimePoint since = sightings.Since("leaves kube-proxy " + uid);
    const bool late = Reached(view.next, since + deadline, now);
    view.takeover = late ? Takeover::kOverdue : Takeover::kLeaving;
    view.takeover_note = "Pod " + on.pod + " is still there";
    if (!view.governed.node->ready) view.takeover_note += ", and the node is not Ready";
    if (kube_proxy.reverted()) view.takeover_note += ", for the DaemonSet has been put back";
  }
}

}  // namespace

void LookAtKubeProxy(NodeView& view, const kube::ProxyConfiguration& configuration,
                     const KubeProxy& kube_proxy, Sightings& sightings, TimePoint now) {
  const kube::Node& node = *view.governed.node;
  const KubeProxy::OnNode on = kube_proxy.On(node, view.next);
  const bool asked = configuration.spec.kube_proxy == kube::KubeProxyPolicy::kTakeOver;
  if (!kube_proxy.known()) {
    view.takeover = asked || on.taken_off ? Takeover::kUnknown : Takeover::kNone;
    return;
  }
  const seconds deadline = ceil<seconds>(configuration.spec.rollout.progress_deadline);
  // One that could not get ours to serve for so long needs its kube-proxy.
  const bool wanted = asked && view.outage != Outage::kLasting;
  if (wanted) {
    LookAtWanted(view, on, kube_proxy, deadline, sightings, now);
  } else if (on.taken_off) {
    view.takeover = Takeover::kToReturn;
  } else if (kube_proxy.changed() && on.Awaited() && node.ready) {
    const TimePoint since = sightings.Since("returns to kube-proxy " + node.uid);
    if (!Reached(view.next, since + deadline, now)) view.takeover = Takeover::kReturning;
  }
}

std::vector<NodeLabelChange> NextLabels(RolloutState& state, const kube::ProxyConfiguration& of,
                                        const KubeProxy& kube_proxy, int64_t& room) {
  std::vector<NodeLabelChange> labels;
  const kube::Canary& canary = of.spec.rollout.canary;
  size_t begun = 0;
  for (const NodeView& view : state.nodes) {
    const bool out = view.takeover == Takeover::kLeaving || view.takeover == Takeover::kOverdue ||
                     view.taken_over_since;
    if (out && view.at_target() && IsCanary(view, canary)) ++begun;
  }
  for (const NodeView& view : state.nodes) {
    const kube::Node& node = *view.governed.node;
    if (view.takeover == Takeover::kToReturn && view.outage == Outage::kLasting) {
      labels.push_back(LabelChange(node, false));  // nothing serves there that it could disturb
      ++state.moving;
      continue;
    }
    if (room <= 0) continue;
    if (view.takeover == Takeover::kToReturn) {
      labels.push_back(LabelChange(node, false));
    } else if (view.takeover == Takeover::kPending && view.available() && view.failure.empty() &&
               node.ready && !node.deleting) {
      const bool is_canary = IsCanary(view, canary);
      if (!state.canary_done && (!is_canary || begun >= state.canaries)) continue;
      if (is_canary) ++begun;
      if (kube_proxy.leaves_out_replaced()) {
        labels.push_back(LabelChange(node, true));
      } else {
        state.turn = true;
      }
    } else {
      continue;
    }
    --room;
    ++state.moving;
  }
  return labels;
}

Return LookAtReturn(const GovernedNode& node, const KubeProxy& kube_proxy, seconds deadline,
                    Sightings& sightings, TimePoint now, std::optional<TimePoint>& wake_up) {
  const KubeProxy::OnNode on = kube_proxy.On(*node.node, wake_up);
  if (on.taken_off && kube_proxy.known()) return Return::kLabel;
  if (!on.taken_off && !on.Awaited()) return Return::kDone;
  const TimePoint since = sightings.Since("returns to kube-proxy " + node.node->uid);
  if (!Reached(wake_up, since + deadline, now)) return Return::kAwaited;
  // One that is not Ready for so long has most likely died, and no Pod will be Ready there.
  return node.node->ready ? Return::kStuck : Return::kDone;
}

}  // namespace pointsman::op
