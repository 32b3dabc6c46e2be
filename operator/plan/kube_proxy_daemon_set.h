// The DaemonSet of the cluster's kube-proxy, while nodes are taken out of it: what is changed in it
// for that, and how it becomes what it was. Pure functions of the object.
//
// Changed are three things, all at once: its Pods' node affinity leaves out nodes with one of the
// labels below; its Pods are replaced only when somebody deletes them (OnDelete), or every one of
// them would be restarted for the new affinity; and an annotation keeps what both were.
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
// On a Node: it is bound to the revision of that number (revision_objects.h), and the DaemonSet
// puts no Pod there either.
inline constexpr const char* kRevisionLabel = "pointsman.io/kube-proxy-revision";
// On the DaemonSet: {"affinity": …, "updateStrategy": …}, what it had before; null: it had none.
inline constexpr const char* kBeforeAnnotation = "pointsman.io/kube-proxy-before";
// On a DaemonSet for a revision: from what it was made (revision_objects.h).
inline constexpr const char* kDerivedAnnotation = "pointsman.io/kube-proxy-derived";

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
  nlohmann::json selector;        // spec.selector
  nlohmann::json pod_template;    // spec.template
  // Of one that was made for a revision: its label kRevisionLabel and its annotation
  // kDerivedAnnotation.
  std::string revision;
  std::string derived;
};

// As DecodeService.
KubeProxyDaemonSet DecodeKubeProxyDaemonSet(std::string_view json);

bool IsReplaced(const kube::Node& node);
// The revision that the node is bound to; "": to none.
std::string BoundTo(const kube::Node& node);
// No Pod of it is for a node with one of the labels.
bool LeavesOutReplaced(const KubeProxyDaemonSet& set);
// Anything of what is changed in it is there.
bool IsChanged(const KubeProxyDaemonSet& set);

// spec.template.spec.affinity as it is without what is changed in it, whoever changed it last.
nlohmann::json AffinityBefore(const KubeProxyDaemonSet& set);
// spec.updateStrategy likewise.
nlohmann::json UpdateStrategyBefore(const KubeProxyDaemonSet& set);

// An affinity for those nodes alone, of the ones that `affinity` is for, that have the label.
nlohmann::json AffinityToLabel(nlohmann::json affinity, const std::string& label,
                               const std::string& value);

// What turns `from` into `to` (RFC 7396); null in `to` is as good as absent.
nlohmann::json MergePatch(const nlohmann::json& from, const nlohmann::json& to);

// Merge patches of the object; an empty object when there is nothing to change. What others have
// changed meanwhile stays.
nlohmann::json PatchToLeaveOutReplaced(const KubeProxyDaemonSet& set);
nlohmann::json PatchToRestore(const KubeProxyDaemonSet& set);

}  // namespace pointsman::op
