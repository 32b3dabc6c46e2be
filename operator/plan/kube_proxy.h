// The cluster's kube-proxy as the API shows it: its DaemonSet, and its Pods on each node.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/time/rfc3339.h"
#include "operator/plan/actions.h"
#include "operator/plan/input.h"
#include "operator/plan/sightings.h"

namespace pointsman::op {

class KubeProxy {
 public:
  // kube-proxy is Ready when its process runs; its rules are in the kernel some seconds later.
  static constexpr std::chrono::seconds kSettles{10};
  // How long an agent has to prepare the restart of one that is not Ready, or not for that long.
  static constexpr std::chrono::seconds kPrepares{60};

  struct OnNode {
    bool taken_off = false;  // the Node has the label kKubeProxyLabel
    std::string bound;       // its label kRevisionLabel; "": none
    bool selected = false;   // the DaemonSet is for it, as it is now
    std::string pod;         // of the DaemonSet's, which is there or ends there; "": none
    bool settled = false;    // that has been Ready for kSettles
    bool pod_ready = false;  // that is Ready, and does not end
    // Of the revision's that the node is bound to; and of any other.
    std::string revision_pod;
    bool revision_settled = false;
    std::string other_revision_pod;
    std::string without_api;  // a Pod of kube-proxy's that is not the DaemonSet's; "": none
    bool without_api_is_mirror = false;  // of a static Pod
    // Ours must not be taken away yet: kube-proxy is to run there, and does not serve.
    bool Awaited() const { return selected && !settled; }
  };

  // `input` and `sightings` outlive this.
  KubeProxy(const PlanInput& input, Sightings& sightings, kube::TimePoint now);

  // Why nothing is known of it; "": it is known.
  const std::string& unknown() const { return unknown_; }
  bool known() const { return unknown_.empty(); }
  const std::string& name() const { return input_.kube_proxy.name; }  // of the DaemonSet
  bool has_daemon_set() const { return set_ != nullptr; }
  // The DaemonSet is for that node when it has none of the labels.
  bool IsFor(const kube::Node& node) const;
  // The DaemonSet puts no Pods on nodes with the label.
  bool leaves_out_replaced() const { return leaves_out_; }
  // It does though nodes have it: somebody has put it back.
  bool reverted() const { return known() && set_ != nullptr && any_taken_off() && !leaves_out_; }
  // Anything of what the operator changes in it is there.
  bool changed() const { return changed_; }
  // Nodes have one of the labels.
  bool any_taken_off() const { return any_replaced_ || any_bound_; }
  bool any_replaced() const { return any_replaced_; }
  bool any_bound() const { return any_bound_; }

  // `wake_up`: when that is another without any change.
  OnNode On(const kube::Node& node, std::optional<kube::TimePoint>& wake_up) const;

  // What is to be written to the DaemonSet: `wanted` says that nodes are, or are to be, out of it.
  std::optional<DaemonSetChange> Change(bool wanted, std::optional<kube::TimePoint>& wake_up) const;

 private:
  bool IsOfDaemonSet(const kube::Pod& pod) const;
  bool MayLeaveOut(std::optional<kube::TimePoint>& wake_up) const;

  const PlanInput& input_;
  Sightings& sightings_;
  const kube::TimePoint now_;
  const KubeProxyDaemonSet* set_ = nullptr;
  std::string unknown_;
  bool leaves_out_ = false;
  bool changed_ = false;
  bool any_replaced_ = false;
  bool any_bound_ = false;
  std::unordered_map<std::string_view, std::vector<const kube::Pod*>> pods_;  // by node
};

// Takes the node out of the DaemonSet, or gives it back to that, whatever it is out for.
NodeLabelChange LabelChange(const kube::Node& node, bool replaced);
// Binds it to a revision; "": to what the cluster's own file says.
NodeLabelChange BindingChange(const kube::Node& node, const std::string& revision);

}  // namespace pointsman::op
