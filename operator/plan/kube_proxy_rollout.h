// How nodes leave kube-proxy's DaemonSet and come back into it, as a part of a rollout: a node
// leaves it when ours has served there for minReady, and is given back before ours is taken away.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "operator/plan/kube_proxy.h"
#include "operator/plan/rollout.h"

namespace pointsman::op {

// Fills the view's part of it. `view` has all the rest.
void LookAtKubeProxy(NodeView& view, const kube::ProxyConfiguration& configuration,
                     const KubeProxy& kube_proxy, Sightings& sightings, kube::TimePoint now);

// Takes nodes out of the DaemonSet, and gives back those that are not to be out of it. `room`: how
// many may begin; counts down.
std::vector<NodeLabelChange> NextLabels(RolloutState& state, const kube::ProxyConfiguration& of,
                                        const KubeProxy& kube_proxy, int64_t& room);

// Tells agents to remove what kube-proxy left where none runs any more, and not to any more where
// one is, or is to be, back. `already`: changes of this pass; a NodeProxy of these has its turn in
// the next one.
std::vector<NodeProxyChange> NextCleanings(const RolloutState& state,
                                           const std::vector<NodeProxyChange>& already);

// A node that no configuration wants any more, before ours is removed there.
enum class Return : uint8_t {
  kDone,      // kube-proxy serves there, or is not to
  kTell,      // its agent has to leave alone what kube-proxy is going to write
  kTold,      // and to have read that
  kLabel,     // it has to get back into the DaemonSet
  kLabelNow,  // the same, and none serves there in the meantime
  kAwaited,   // and its Pod has to be Ready
  kStuck,     // not by the deadline: it holds nobody up any more
};
Return LookAtReturn(const GovernedNode& node, const KubeProxy& kube_proxy,
                    std::chrono::seconds deadline, Sightings& sightings, kube::TimePoint now,
                    std::optional<kube::TimePoint>& wake_up);

}  // namespace pointsman::op
