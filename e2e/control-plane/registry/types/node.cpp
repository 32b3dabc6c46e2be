#include <set>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells nodeCells(const Json& object, Clock::time_point now) {
  std::vector<std::string> status;
  for (const Json& c : arrayAt(object, {"status", "conditions"})) {
    if (stringAt(c, {"type"}) == "Ready") {
      status.emplace_back(stringAt(c, {"status"}) == "True" ? "Ready" : "NotReady");
    }
  }
  if (status.empty()) status.emplace_back("Unknown");
  if (const Json* u = at(object, {"spec", "unschedulable"}); u != nullptr && *u == true) {
    status.emplace_back("SchedulingDisabled");
  }
  std::set<std::string> roles;
  if (const Json* labels = at(object, {"metadata", "labels"}); labels != nullptr) {
    static const std::string prefix = "node-role.kubernetes.io/";
    for (const auto& [key, value] : labels->items()) {
      if (key.starts_with(prefix) && key.size() > prefix.size()) {
        roles.insert(key.substr(prefix.size()));
      } else if (key == "kubernetes.io/role" && value.is_string() && !isEmptyString(value)) {
        roles.insert(value.get<std::string>());
      }
    }
  }
  std::string internal;
  std::string external;
  for (const Json& a : arrayAt(object, {"status", "addresses"})) {
    const std::string type = stringAt(a, {"type"});
    if (type == "InternalIP" && internal.empty()) internal = stringAt(a, {"address"});
    if (type == "ExternalIP" && external.empty()) external = stringAt(a, {"address"});
  }
  const auto info = [&](const char* field) {
    const std::string text = stringAt(object, {"status", "nodeInfo", field});
    return text.empty() ? std::string("<unknown>") : text;
  };
  return {nameOf(object),
          join(status),
          orNone(join({roles.begin(), roles.end()})),
          age(object, now),
          stringAt(object, {"status", "nodeInfo", "kubeletVersion"}),
          orNone(internal),
          orNone(external),
          info("osImage"),
          info("kernelVersion"),
          info("containerRuntimeVersion")};
}

}  // namespace

ResourceType makeNodeType(const TypeBuilder& build) {
  ResourceType nodes = build.make("", "v1", "nodes", "Node", false, {"no"});
  nodes.columns = {kName,
                   column("Status"),
                   column("Roles"),
                   kAge,
                   column("Version"),
                   column("Internal-IP", "string", 1),
                   column("External-IP", "string", 1),
                   column("OS-Image", "string", 1),
                   column("Kernel-Version", "string", 1),
                   column("Container-Runtime", "string", 1)};
  nodes.cells = nodeCells;
  build.indexFields(nodes, {"spec.unschedulable"});
  return nodes;
}

}  // namespace pointsman::e2e
