// How nodes are bound to revisions of a stock kube-proxy's file, as a part of a rollout, and how a
// revision becomes the cluster's own when all of them are.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "operator/plan/kube_proxy.h"
#include "operator/plan/kube_proxy_provider.h"
#include "operator/plan/rollout.h"

namespace pointsman::op {

// Fills the view's part of it, and holds what the agent says of kube-proxy against whose Pod that
// is. `view` has all the rest.
void LookAtBinding(NodeView& view, const RolloutState& state,
                   const kube::ProxyConfiguration& configuration, const KubeProxyProvider& provider,
                   const KubeProxy& kube_proxy, Sightings& sightings, kube::TimePoint now);

// The labels of nodes that have been asked to run the target. Fills in what has to be there first.
std::vector<NodeLabelChange> NextBindings(RolloutState& state, const KubeProxyProvider& provider,
                                          const KubeProxy& kube_proxy);

// ConfigMaps and DaemonSets of revisions: those that are needed are made and kept as they have to
// be, the others go. `wanted`: to be prepared; nodes that are bound count by themselves.
// `released`: the DaemonSet of that one is on its way to leave its Pods to the cluster's own.
std::vector<KubeProxyObjectChange> PlanRevisionObjects(const PlanInput& input,
                                                       const KubeProxyProvider& provider,
                                                       const KubeProxy& kube_proxy,
                                                       const std::set<int64_t>& wanted,
                                                       std::optional<int64_t> released);

// A revision that is good everywhere becomes the cluster's own.
struct WriteBack {
  bool ours = false;     // it is under way: the DaemonSet is to be as it was
  bool pending = false;  // something is left to be done, and nothing is known to be in the way
  std::string note;      // how far it is, or what is in the way; "": it is done
  std::vector<KubeProxyObjectChange> objects;
};
WriteBack PlanWriteBack(const PlanInput& input, const RolloutState& state,
                        const kube::ProxyConfiguration& configuration,
                        const KubeProxyProvider& provider, const KubeProxy& kube_proxy);

// Labels that mean nothing any more: the DaemonSet does not go by them, and no other one is for
// those nodes.
std::vector<NodeLabelChange> StaleBindings(const PlanInput& input,
                                           const KubeProxyProvider& provider,
                                           const KubeProxy& kube_proxy, Sightings& sightings,
                                           std::optional<kube::TimePoint>& wake_up);

}  // namespace pointsman::op
