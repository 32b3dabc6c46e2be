// The rollout of one ProxyConfiguration: where it stands, and its next steps.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "operator/plan/actions.h"
#include "operator/plan/kube_proxy.h"
#include "operator/plan/kube_proxy_provider.h"
#include "operator/plan/node_view.h"

namespace pointsman::op {

bool IsCanary(const NodeView& view, const kube::Canary& canary);

// Only moved, for it points into itself.
struct RolloutState {
  RolloutState() = default;
  RolloutState(RolloutState&&) = default;
  RolloutState& operator=(RolloutState&&) = default;

  Revision target;              // what the nodes should run now
  int64_t update_revision = 0;  // what the specification says; another one after a rollback
  // The last that was good everywhere, if that is another than the target: what a new node gets
  // while the target is not known to be good.
  std::optional<Revision> last_good;
  bool rolled_back = false;    // target is not what the specification says
  bool roll_back_now = false;  // decided in this pass: to be written down before anything moves
  int64_t max_unavailable = 1;
  bool paused = false;
  bool preflight_done = false;  // every agent that can answer has, or the rollout has begun
  bool canary_done = true;
  bool complete = false;
  std::vector<NodeView> nodes;
  std::vector<GovernedNode> leaving;
  std::vector<Group::WithoutAgent> without_agent;
  size_t pending = 0;                              // nodes not yet asked to run the target
  size_t canaries = 0;                             // wanted
  std::vector<const NodeView*> draining_canaries;  // waited for: what is cut there is a gate's
  size_t starting = 0;                             // asked in this pass
  size_t moving = 0;  // out of kube-proxy's DaemonSet or into it, in this pass
  bool turn = false;  // a node leaves it, now or as soon as the DaemonSet is prepared for that
  // With provider KubeProxy: what was found before the first change; 0: nothing was looked for. Its
  // objects are needed for the target (provider_rollout.h).
  int64_t found_revision = 0;
  bool prepare = false;
  bool writing_back = false;
  std::string write_back_note;
  std::vector<const NodeView*> failed;
  std::vector<const NodeView*> waiting;    // for their agent's answer
  std::vector<const NodeView*> agentless;  // that did not answer in time
};

// Fills the state from the nodes' views.
RolloutState Judge(const Group& group, const Revision& spec_revision,
                   const std::vector<Revision>& revisions, const KubeProxy& kube_proxy,
                   const KubeProxyProvider& provider, Sightings& sightings, kube::TimePoint now);

// A change of it that changes nothing yet.
NodeProxyChange UpdateOf(const kube::NodeProxy& proxy);

struct Steps {
  std::vector<NodeProxyChange> changes;
  std::vector<NodeLabelChange> labels;
  // Leaving nodes on which ours goes on until kube-proxy serves.
  std::vector<std::string> awaited;
  bool returning = false;  // on one of them that has not lasted too long
};

// The next changes of NodeProxies and labels, within maxUnavailable. Fills in what of the state is
// about this pass.
Steps NextChanges(RolloutState& state, const kube::ProxyConfiguration& configuration,
                  const KubeProxy& kube_proxy, const KubeProxyProvider& provider,
                  Sightings& sightings, kube::TimePoint now,
                  std::optional<kube::TimePoint>& wake_up);

// Gives nodes that no configuration wants back to kube-proxy, where there is one, and takes the
// rules off them, at most `budget` at a time.
Steps NextRemovals(const std::vector<GovernedNode>& leaving, int64_t budget,
                   std::chrono::seconds deadline, const KubeProxy& kube_proxy, Sightings& sightings,
                   kube::TimePoint now, std::optional<kube::TimePoint>& wake_up);

}  // namespace pointsman::op
