// Which nodes the Pods of a DaemonSet are for, as the DaemonSet controller and the scheduler decide
// it (k8s.io/component-helpers/scheduling/corev1, pkg/controller/daemon).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kube/objects/json_reader.h"
#include "kube/objects/node.h"

namespace pointsman::kube {

// A NodeSelectorRequirement.
struct NodeRequirement {
  std::string key;
  std::string op;  // In, NotIn, Exists, DoesNotExist, Gt, Lt; another holds for no node
  std::vector<std::string> values;
  bool Holds(const std::map<std::string, std::string>& labels) const;
  bool operator==(const NodeRequirement&) const = default;
};

// Of a NodeSelector's terms one must hold, and of a term everything; an empty term never holds.
struct NodeTerm {
  std::vector<NodeRequirement> labels;  // matchExpressions
  std::vector<NodeRequirement> fields;  // matchFields: metadata.name only
  bool Holds(const Node& node) const;
  bool operator==(const NodeTerm&) const = default;
};

struct Toleration {
  std::string key;  // "": every key
  std::string op;   // "" is Equal
  std::string value;
  std::string effect;  // "": every effect
  bool Tolerates(const Taint& taint) const;
  bool operator==(const Toleration&) const = default;
};

// From the pod spec of a Pod or of a template.
struct NodePlacement {
  std::map<std::string, std::string> node_selector;
  bool has_affinity = false;  // required terms are given, be it none
  std::vector<NodeTerm> affinity;
  std::vector<Toleration> tolerations;
  bool host_network = false;

  // Why its Pod has no place on that node: "kubernetes.io/os=windows", "taint a=b:NoSchedule"; "":
  // it has one.
  std::string WhyNot(const Node& node) const;
  bool operator==(const NodePlacement&) const = default;
};

// One field of a pod spec, of those above; others are left alone. Internal to the decoders.
void ReadPlacementField(JsonReader& reader, std::string_view key, JsonReader::Value value,
                        NodePlacement& placement);

}  // namespace pointsman::kube
