#include "kube/objects/pod.h"

#include <stdexcept>

#include "kube/objects/node_affinity.h"

namespace pointsman::kube {
namespace {

// The node that the DaemonSet controller made the Pod for, before the scheduler has bound it.
std::string MadeFor(const NodePlacement& placement) {
  for (const NodeTerm& term : placement.affinity) {
    for (const NodeRequirement& field : term.fields) {
      if (field.key == "metadata.name" && field.op == "In" && field.values.size() == 1) {
        return field.values[0];
      }
    }
  }
  return "";
}

}  // namespace

Pod DecodePod(std::string_view json) {
  using Value = JsonReader::Value;
  Pod pod;
  NodePlacement placement;
  std::vector<std::string> problems;
  JsonReader reader(&problems);
  ReadDocument(json, "Pod", reader, [&](std::string_view key, Value value) {
    if (key == "metadata") {
      reader.Object(value, [&](std::string_view name, Value field) {
        if (name == "name") reader.Assign(field, pod.name);
        if (name == "uid") reader.Assign(field, pod.uid);
        if (name == "resourceVersion") reader.Assign(field, pod.resource_version);
      });
    } else if (key == "spec") {
      reader.Object(value, [&](std::string_view name, Value field) {
        if (name == "nodeName") reader.Assign(field, pod.node_name);
        if (name == "affinity") ReadPlacementField(reader, name, field, placement);
      });
    } else if (key == "status") {
      reader.Object(value, [&](std::string_view name, Value field) {
        if (name != "phase") return;
        const auto phase = reader.String(field);
        pod.over = phase == "Succeeded" || phase == "Failed";
      });
    }
  });
  if (pod.name.empty()) throw std::invalid_argument("metadata.name: required");
  if (pod.node_name.empty()) pod.node_name = MadeFor(placement);
  return pod;
}

}  // namespace pointsman::kube
