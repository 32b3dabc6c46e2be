#include "kube/objects/daemon_set.h"

#include <stdexcept>

namespace pointsman::kube {

DaemonSet DecodeDaemonSet(std::string_view json) {
  using Value = JsonReader::Value;
  DaemonSet set;
  std::vector<std::string> problems;
  JsonReader reader(&problems);
  const auto pod_spec = [&](std::string_view key, Value value) {
    ReadPlacementField(reader, key, value, set.placement);
  };
  ReadDocument(json, "DaemonSet", reader, [&](std::string_view key, Value value) {
    if (key == "metadata") {
      reader.Object(value, [&](std::string_view name, Value field) {
        if (name == "name") reader.Assign(field, set.name);
        if (name == "uid") reader.Assign(field, set.uid);
        if (name == "resourceVersion") reader.Assign(field, set.resource_version);
      });
    } else if (key == "spec") {
      reader.Object(value, [&](std::string_view name, Value pod) {
        if (name != "template") return;
        reader.Object(pod, [&](std::string_view part, Value spec) {
          if (part == "spec") reader.Object(spec, pod_spec);
        });
      });
    }
  });
  if (set.name.empty()) throw std::invalid_argument("metadata.name: required");
  return set;
}

}  // namespace pointsman::kube
