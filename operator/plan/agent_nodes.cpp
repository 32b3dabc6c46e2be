#include "operator/plan/agent_nodes.h"

#include <algorithm>

namespace pointsman::op {
namespace {

// Nodes that have no kernel of their own, whoever schedules Pods to them: the label and taint of
// virtual-kubelet (virtual-kubelet.io/docs/setup), the label of EKS Fargate.
std::string WhyNone(const kube::Node& node) {
  constexpr std::pair<const char*, const char*> kLabels[] = {
      {"type", "virtual-kubelet"}, {"eks.amazonaws.com/compute-type", "fargate"}};
  for (const auto& [key, value] : kLabels) {
    const auto label = node.labels.find(key);
    if (label != node.labels.end() && label->second == value) {
      return std::string(key) + "=" + value;
    }
  }
  for (const kube::Taint& taint : node.taints) {
    if (taint.key.starts_with("virtual-kubelet.io/")) return "taint " + taint.key;
  }
  const auto os = node.labels.find("kubernetes.io/os");
  if (os != node.labels.end() && os->second != "linux") return "kubernetes.io/os=" + os->second;
  return "";
}

}  // namespace

AgentNodes::AgentNodes(const std::vector<std::shared_ptr<const kube::Pod>>& pods,
                       std::vector<std::shared_ptr<const kube::DaemonSet>> daemon_sets)
    : daemon_sets_(std::move(daemon_sets)) {
  for (const auto& pod : pods) {
    if (!pod->over && !pod->node_name.empty()) with_pod_.insert(pod->node_name);
  }
}

std::optional<NoAgent> AgentNodes::WhyNot(const kube::Node& node, const kube::NodeProxy* proxy,
                                          kube::TimePoint now,
                                          std::optional<kube::TimePoint>& next) const {
  if (proxy != nullptr && proxy->status.observed_generation > 0) return std::nullopt;
  if (std::string why = WhyNone(node); !why.empty()) return NoAgent{std::move(why)};
  if (with_pod_.contains(node.name)) return std::nullopt;
  if (daemon_sets_.empty()) {
    if (with_pod_.empty()) return std::nullopt;
    const kube::TimePoint end = node.created + kGrace;
    if (node.created <= now && now < end) {
      next = next ? std::min(*next, end) : end;
      return std::nullopt;
    }
    return NoAgent{"no Pod of the agent", false};
  }
  std::string first;
  for (const auto& set : daemon_sets_) {
    const std::string why = set->placement.WhyNot(node);
    if (why.empty()) return std::nullopt;
    if (first.empty()) first = why;
  }
  return NoAgent{first, false};
}

}  // namespace pointsman::op
