// Which nodes can run the node agent at all. Those that cannot (Windows, virtual kubelets, what the
// DaemonSet does not select) are not waited for and do not count: no revision will ever reach them.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/time/rfc3339.h"

namespace pointsman::op {

// By which the agent's Pods and DaemonSets in the operator's namespace are known.
inline constexpr const char* kAgentSelector = "app.kubernetes.io/name=pointsman-node-agent";

// Why no agent runs there.
struct NoAgent {
  std::string why;         // "kubernetes.io/os=windows"
  bool impossible = true;  // also none that no Pod runs
};

class AgentNodes {
 public:
  // Agents need no Pods (systemd units, test clusters): with neither Pods nor DaemonSets all Linux
  // nodes count. Without a DaemonSet, where somebody else makes the Pods, those nodes count that
  // have one; a new node is given kGrace to get it.
  static constexpr std::chrono::seconds kGrace{60};

  AgentNodes(const std::vector<std::shared_ptr<const kube::Pod>>& pods,
             std::vector<std::shared_ptr<const kube::DaemonSet>> daemon_sets);

  // nullopt: one can run there, or does. A node whose agent has ever spoken has one. `next`: when
  // that may change by itself, if it may.
  std::optional<NoAgent> WhyNot(const kube::Node& node, const kube::NodeProxy* proxy,
                                kube::TimePoint now, std::optional<kube::TimePoint>& next) const;

 private:
  std::unordered_set<std::string> with_pod_;
  const std::vector<std::shared_ptr<const kube::DaemonSet>> daemon_sets_;
};

}  // namespace pointsman::op
