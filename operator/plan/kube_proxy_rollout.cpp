#include "operator/plan/kube_proxy_rollout.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "operator/plan/wake_up.h"

namespace pointsman::op {
namespace {

using kube::TimePoint;
using std::chrono::ceil;
using std::chrono::seconds;

// The agent removes nothing any more once it has heard nothing for 3 minutes
// (agent/kube_proxy_removal.h).
constexpr std::chrono::minutes kCutOffAgentRests{5};

bool HasAnswered(const kube::NodeProxy& proxy) {
  return proxy.status.observed_generation >= proxy.generation;
}

std::string WhyNotByTheApi(const KubeProxy::OnNode& on) {
  if (on.without_api_is_mirror) {
    return "Pod " + on.without_api +
           " is a static Pod: to have it gone, take its manifest out of the kubelet's directory on "
           "the node, or turn kube-proxy off where the distribution is configured";
  }
  return "Pod " + on.without_api + " is of no DaemonSet that the operator knows";
}

// In its agent's words, which are bounded where they are shown.
std::string WhyNotCleaned(const std::optional<kube::KubeProxyStatus>& said) {
  if (!said) return "its agent has not said yet that kube-proxy's rules are gone";
  return said->message.empty() ? "its agent says: " + said->state : said->message;
}

// One that runs though the API shows none: how to stop it.
std::string HowToStop(const kube::Node& node) {
  // k3s' versions end in +k3s1; RKE2's kube-proxy is a static Pod.
  if (node.kubelet_version.find("+k3s") != std::string::npos)
    return "K3s has it within: start its servers with --disable-kube-proxy";
  if (node.labels.contains("microk8s.io/cluster"))
    return "MicroK8s has it within kubelite: turn it off in its arguments";
  return "no Pod of it is there: stop its service on the node, or turn it off in the program that "
         "has it within";
}

// Of a node without kube-proxy as far as the API shows, by its agent's word.
void LookAtCleaning(NodeView& view, seconds deadline, Sightings& sightings, TimePoint now) {
  const kube::NodeProxy* const proxy = view.governed.proxy.get();
  const std::string& uid = view.governed.node->uid;
  view.cleans_up = true;
  if (proxy == nullptr || !proxy->spec.remove_kube_proxy) {
    view.takeover = Takeover::kToClean;
    return;
  }
  const auto& said = proxy->status.kube_proxy;
  if (HasAnswered(*proxy) && said && said->state == kube::kKubeProxyRemoved) {
    view.takeover = Takeover::kDone;
    view.taken_over_since = sightings.Since("taken over " + uid);
    return;
  }
  view.takeover_note = WhyNotCleaned(said);
  if (HasAnswered(*proxy) && said && said->state == kube::kKubeProxyRunning &&
      !IsReplaced(*view.governed.node)) {
    view.takeover = Takeover::kCannot;  // nothing of ours ends it
    view.takeover_note += ". " + HowToStop(*view.governed.node);
    return;
  }
  const bool returned = said && said->state == kube::kKubeProxyReturned;
  const seconds drain = ceil<seconds>(proxy->spec.settings.drain_timeout);
  const TimePoint since = sightings.Since("cleans up after kube-proxy " + uid);
  const bool late = returned || Reached(view.next, since + drain + deadline, now);
  view.takeover = late ? Takeover::kOverdue : Takeover::kCleaning;
}

// Its agent removes nothing of kube-proxy's any more: it has read that, or is out of reach for so
// long that it does nothing.
bool LeavesAlone(const GovernedNode& node, seconds deadline, Sightings& sightings, TimePoint now,
                 std::optional<TimePoint>& next) {
  if (!node.proxy) return true;
  if (node.proxy->spec.remove_kube_proxy) return false;
  if (HasAnswered(*node.proxy)) return true;
  const TimePoint since = sightings.Since("leaves kube-proxy alone " + node.node->uid);
  return Reached(next, since + std::max<seconds>(deadline, kCutOffAgentRests), now);
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
    // Also where the API never showed one: it may have left rules, or run within another program.
    LookAtCleaning(view, deadline, sightings, now);
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
  view.has_kube_proxy = !on.pod.empty() || !on.without_api.empty() || !on.revision_pod.empty() ||
                        !on.other_revision_pod.empty();
  const bool configured = configuration.spec.provider == kube::Provider::kKubeProxy;
  const bool asked = configuration.spec.kube_proxy == kube::KubeProxyPolicy::kTakeOver;
  if (!kube_proxy.known()) {
    view.takeover =
        asked || on.taken_off || !on.bound.empty() ? Takeover::kUnknown : Takeover::kNone;
    return;
  }
  const seconds deadline = ceil<seconds>(configuration.spec.rollout.progress_deadline);
  // One that could not get ours to serve for so long needs its kube-proxy.
  const bool wanted = asked && view.outage != Outage::kLasting;
  if (!on.bound.empty() && !on.taken_off) {
    // To the cluster's own before anything else.
    if (configured) return;
    view.takeover = Takeover::kToReturn;
    view.may_return = true;
  } else if (wanted) {
    LookAtWanted(view, on, kube_proxy, deadline, sightings, now);
  } else if (on.taken_off) {
    view.takeover = Takeover::kToReturn;
    view.may_return = LeavesAlone(view.governed, deadline, sightings, now, view.next);
  } else if (kube_proxy.changed() && on.Awaited() && node.ready && !configured) {
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
    if (IsReplaced(*view.governed.node) && view.at_target() && IsCanary(view, canary)) ++begun;
  }
  for (const NodeView& view : state.nodes) {
    const kube::Node& node = *view.governed.node;
    if (view.takeover == Takeover::kToReturn && !view.may_return) continue;
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

std::vector<NodeProxyChange> NextCleanings(const RolloutState& state,
                                           const std::vector<NodeProxyChange>& already) {
  std::unordered_set<std::string_view> changed;
  for (const NodeProxyChange& change : already)
    changed.insert(change.name);
  std::vector<NodeProxyChange> changes;
  for (const NodeView& view : state.nodes) {
    const auto& proxy = view.governed.proxy;
    if (!proxy || view.takeover == Takeover::kUnknown || changed.contains(proxy->name)) continue;
    const bool remove = view.cleans_up && !view.has_kube_proxy;
    // Ours serves first; a node that was taken off had that looked at.
    const bool serves = IsReplaced(*view.governed.node) || view.available();
    if (remove && !proxy->spec.remove_kube_proxy && !serves) continue;
    if (remove == proxy->spec.remove_kube_proxy || (remove && state.paused)) continue;
    changes.push_back(UpdateOf(*proxy));
    changes.back().spec.remove_kube_proxy = remove;
  }
  return changes;
}

Return LookAtReturn(const GovernedNode& node, const KubeProxy& kube_proxy, seconds deadline,
                    Sightings& sightings, TimePoint now, std::optional<TimePoint>& wake_up) {
  const KubeProxy::OnNode on = kube_proxy.On(*node.node, wake_up);
  if (node.proxy->spec.remove_kube_proxy && kube_proxy.known()) return Return::kTell;
  if (on.taken_off && kube_proxy.known()) {
    return LeavesAlone(node, deadline, sightings, now, wake_up) ? Return::kLabel : Return::kTold;
  }
  if (!on.bound.empty() && kube_proxy.known())
    return on.revision_settled || on.settled ? Return::kLabel : Return::kLabelNow;
  if (!on.taken_off && on.bound.empty() && !on.Awaited()) return Return::kDone;
  const TimePoint since = sightings.Since("returns to kube-proxy " + node.node->uid);
  if (!Reached(wake_up, since + deadline, now)) return Return::kAwaited;
  // One that is not Ready for so long has most likely died, and no Pod will be Ready there.
  return node.node->ready ? Return::kStuck : Return::kDone;
}

}  // namespace pointsman::op
