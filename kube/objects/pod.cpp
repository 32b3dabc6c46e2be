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

void ReadMetadata(JsonReader& reader, std::string_view name, JsonReader::Value field, Pod& pod) {
  using Value = JsonReader::Value;
  if (name == "name") reader.Assign(field, pod.name);
  if (name == "uid") reader.Assign(field, pod.uid);
  if (name == "resourceVersion") reader.Assign(field, pod.resource_version);
  if (name == "deletionTimestamp") pod.deleting = reader.String(field).has_value();
  if (name == "labels") {
    reader.Object(field, [&](std::string_view key, Value value) {
      if (const auto text = reader.String(value)) pod.labels[std::string(key)] = *text;
    });
  }
  if (name == "annotations") {
    reader.Object(field, [&](std::string_view key, Value) {
      pod.mirror = pod.mirror || key == "kubernetes.io/config.mirror";
    });
  }
  if (name == "ownerReferences") {
    reader.Array(field, [&](Value owner) {
      std::string uid;
      bool controller = false;
      reader.Object(owner, [&](std::string_view key, Value part) {
        if (key == "uid") reader.Assign(part, uid);
        if (key == "controller") reader.Assign(part, controller);
      });
      if (controller) pod.controller_uid = uid;
    });
  }
}

bool IsReadyCondition(JsonReader& reader, JsonReader::Value condition) {
  std::string type;
  std::string status;
  reader.Object(condition, [&](std::string_view key, JsonReader::Value part) {
    if (key == "type") reader.Assign(part, type);
    if (key == "status") reader.Assign(part, status);
  });
  return type == "Ready" && status == "True";
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
        ReadMetadata(reader, name, field, pod);
      });
    } else if (key == "spec") {
      reader.Object(value, [&](std::string_view name, Value field) {
        if (name == "nodeName") reader.Assign(field, pod.node_name);
        if (name == "affinity") ReadPlacementField(reader, name, field, placement);
      });
    } else if (key == "status") {
      reader.Object(value, [&](std::string_view name, Value field) {
        if (name == "phase") {
          const auto phase = reader.String(field);
          pod.over = phase == "Succeeded" || phase == "Failed";
        } else if (name == "conditions") {
          reader.Array(field, [&](Value condition) {
            pod.ready = IsReadyCondition(reader, condition) || pod.ready;
          });
        }
      });
    }
  });
  if (pod.name.empty()) throw std::invalid_argument("metadata.name: required");
  if (pod.node_name.empty()) pod.node_name = MadeFor(placement);
  return pod;
}

}  // namespace pointsman::kube
