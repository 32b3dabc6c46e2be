#include "kube/objects/node_affinity.h"

#include <algorithm>
#include <charconv>

namespace pointsman::kube {
namespace {

using Value = JsonReader::Value;

std::optional<int64_t> Integer(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

NodeRequirement ReadRequirement(JsonReader& reader, Value value) {
  NodeRequirement requirement;
  reader.Object(value, [&](std::string_view key, Value field) {
    if (key == "key") {
      reader.Assign(field, requirement.key);
    } else if (key == "operator") {
      reader.Assign(field, requirement.op);
    } else if (key == "values") {
      reader.Array(field, [&](Value element) {
        if (const auto text = reader.String(element)) requirement.values.emplace_back(*text);
      });
    }
  });
  return requirement;
}

NodeTerm ReadTerm(JsonReader& reader, Value value) {
  NodeTerm term;
  reader.Object(value, [&](std::string_view key, Value field) {
    const bool labels = key == "matchExpressions";
    if (!labels && key != "matchFields") return;
    reader.Array(field, [&](Value element) {
      (labels ? term.labels : term.fields).push_back(ReadRequirement(reader, element));
    });
  });
  return term;
}

void ReadAffinity(JsonReader& reader, Value value, NodePlacement& placement) {
  reader.Object(value, [&](std::string_view kind, Value affinity) {
    if (kind != "nodeAffinity") return;
    reader.Object(affinity, [&](std::string_view when, Value selector) {
      if (when != "requiredDuringSchedulingIgnoredDuringExecution") return;
      reader.Object(selector, [&](std::string_view key, Value terms) {
        if (key != "nodeSelectorTerms") return;
        placement.has_affinity = true;
        reader.Array(terms,
                     [&](Value term) { placement.affinity.push_back(ReadTerm(reader, term)); });
      });
    });
  });
}

// What every Pod of a DaemonSet tolerates (pkg/controller/daemon/util
// AddOrUpdateDaemonPodTolerations).
bool DaemonsTolerate(const Taint& taint, bool host_network) {
  static constexpr std::string_view kOurs = "node.kubernetes.io/";
  const std::string_view key = taint.key;
  if (!key.starts_with(kOurs)) return false;
  const std::string_view name = key.substr(kOurs.size());
  if (taint.effect == "NoExecute") return name == "not-ready" || name == "unreachable";
  return name == "disk-pressure" || name == "memory-pressure" || name == "pid-pressure" ||
         name == "unschedulable" || (host_network && name == "network-unavailable");
}

std::string Label(const Node& node, const std::string& key) {
  const auto label = node.labels.find(key);
  return label == node.labels.end() ? "no label " + key : key + "=" + label->second;
}

}  // namespace

bool NodeRequirement::Holds(const std::map<std::string, std::string>& labels) const {
  const auto label = labels.find(key);
  const bool there = label != labels.end();
  const auto among = [&] {
    return there && std::find(values.begin(), values.end(), label->second) != values.end();
  };
  if (op == "In") return among();
  if (op == "NotIn") return !among();
  if (op == "Exists") return there;
  if (op == "DoesNotExist") return !there;
  if (!there || values.size() != 1) return false;
  const auto number = Integer(label->second);
  const auto bound = Integer(values[0]);
  if (!number || !bound) return false;
  return (op == "Gt" && *number > *bound) || (op == "Lt" && *number < *bound);
}

bool NodeTerm::Holds(const Node& node) const {
  if (labels.empty() && fields.empty()) return false;
  const std::map<std::string, std::string> names = {{"metadata.name", node.name}};
  const auto all = [](const auto& requirements, const auto& of) {
    return std::all_of(requirements.begin(), requirements.end(),
                       [&](const NodeRequirement& requirement) { return requirement.Holds(of); });
  };
  return all(labels, node.labels) && all(fields, names);
}

bool Toleration::Tolerates(const Taint& taint) const {
  if (!effect.empty() && effect != taint.effect) return false;
  if (!key.empty() && key != taint.key) return false;
  if (op == "Exists") return true;
  return !key.empty() && (op.empty() || op == "Equal") && value == taint.value;
}

std::string NodePlacement::WhyNot(const Node& node) const {
  for (const auto& [key, value] : node_selector) {
    const auto label = node.labels.find(key);
    if (label == node.labels.end() || label->second != value) return Label(node, key);
  }
  const bool selected = std::any_of(affinity.begin(), affinity.end(),
                                    [&](const NodeTerm& term) { return term.Holds(node); });
  if (has_affinity && !selected) {
    // With one term, as it mostly is, what of it does not hold.
    if (affinity.size() == 1) {
      for (const NodeRequirement& requirement : affinity[0].labels) {
        if (!requirement.Holds(node.labels)) return Label(node, requirement.key);
      }
    }
    return "the node affinity of the agent's Pods";
  }
  for (const Taint& taint : node.taints) {
    if (taint.effect != "NoSchedule" && taint.effect != "NoExecute") continue;
    const bool tolerated =
        DaemonsTolerate(taint, host_network) ||
        std::any_of(tolerations.begin(), tolerations.end(),
                    [&](const Toleration& toleration) { return toleration.Tolerates(taint); });
    if (!tolerated) return "taint " + taint.key + "=" + taint.value + ":" + taint.effect;
  }
  return "";
}

void ReadPlacementField(JsonReader& reader, std::string_view key, Value value,
                        NodePlacement& placement) {
  if (key == "nodeSelector") {
    reader.Object(value, [&](std::string_view label, Value text) {
      if (const auto content = reader.String(text))
        placement.node_selector.emplace(label, *content);
    });
  } else if (key == "affinity") {
    ReadAffinity(reader, value, placement);
  } else if (key == "hostNetwork") {
    reader.Assign(value, placement.host_network);
  } else if (key == "tolerations") {
    reader.Array(value, [&](Value element) {
      Toleration& toleration = placement.tolerations.emplace_back();
      reader.Object(element, [&](std::string_view name, Value text) {
        if (name == "key") reader.Assign(text, toleration.key);
        if (name == "operator") reader.Assign(text, toleration.op);
        if (name == "value") reader.Assign(text, toleration.value);
        if (name == "effect") reader.Assign(text, toleration.effect);
      });
    });
  }
}

}  // namespace pointsman::kube
