// The DaemonSet of the cluster's kube-proxy, while nodes are taken out of it: what is changed in it
// for that, and how it becomes what it was. Pure functions of the object.
//
// Changed are three things, all at once: its Pods' node affinity leaves out nodes with the label
// below; its Pods are replaced only when somebody deletes them (OnDelete), or every one of them
// would be restarted for the new affinity; and an annotation keeps what both were.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "kube/objects/node.h"
#include "kube/objects/node_affinity.h"

namespace pointsman::op {

// On a Node: kube-proxy's DaemonSet puts no Pod there.
inline constexpr const char* kKubeProxyLabel = "pointsman.io/kube-proxy";
inline constexpr const char* kReplaced = "replaced";
// On the DaemonSet: {"affinity": …, "updateStrategy": …}, what it had before; null: it had none.
inline constexpr const char* kBeforeAnnotation = "pointsman.io/kube-proxy-before";

struct KubeProxyDaemonSet {
  std::string name;
  std::string uid;
  std::string resource_version;
  bool deleting = false;
  nlohmann::json affinity;         // spec.template.spec.affinity; null: none
  nlohmann::json update_strategy;  // spec.updateStrategy
  std::string before;              // the annotation's value, "" if there is none
  std::map<std::string, std::string> pod_labels;
  kube::NodePlacement placement;  // with `affinity`
};

// As DecodeService.
KubeProxyDaemonSet DecodeKubeProxyDaemonSet(std::string_view json);

bool IsReplaced(const kube::Node& node);
// No Pod of it is for a node with the label.
bool LeavesOutReplaced(const KubeProxyDaemonSet& set);
// Anything of what is changed in it is there.
bool IsChanged(const KubeProxyDaemonSet& set);

// Merge patches of the object; an empty object when there is nothing to change. What others have
// changed meanwhile stays.
nlohmann::json PatchToLeaveOutReplaced(const KubeProxyDaemonSet& set);
nlohmann::json PatchToRestore(const KubeProxyDaemonSet& set);

}  // namespace pointsman::op
