#include <set>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells NodeCells(const Json& object, Clock::time_point now) {
  std::vector<std::string> status;
  for (const Json& c : ArrayAt(object, {"status", "conditions"})) {
    if (StringAt(c, {"type"}) == "Ready") {
      status.emplace_back(StringAt(c, {"status"}) == "True" ? "Ready" : "NotReady");
    }
  }
  if (status.empty()) status.emplace_back("Unknown");
  if (const Json* u = At(object, {"spec", "unschedulable"}); u != nullptr && *u == true) {
    status.emplace_back("SchedulingDisabled");
  }
  std::set<std::string> roles;
  if (const Json* labels = At(object, {"metadata", "labels"}); labels != nullptr) {
    static const std::string prefix = "node-role.kubernetes.io/";
    for (const auto& [key, value] : labels->items()) {
      if (key.starts_with(prefix) && key.size() > prefix.size()) {
        roles.insert(key.substr(prefix.size()));
      } else if (key == "kubernetes.io/role" && value.is_string() && !IsEmptyString(value)) {
        roles.insert(value.get<std::string>());
      }
    }
  }
  std::string internal;
  std::string external;
  for (const Json& a : ArrayAt(object, {"status", "addresses"})) {
    const std::string type = StringAt(a, {"type"});
    if (type == "InternalIP" && internal.empty()) internal = StringAt(a, {"address"});
    if (type == "ExternalIP" && external.empty()) external = StringAt(a, {"address"});
  }
  const auto info = [&](const char* field) {
    const std::string text = StringAt(object, {"status", "nodeInfo", field});
    return text.empty() ? std::string("<unknown>") : text;
  };
  return {NameOf(object),
          Join(status),
          OrNone(Join({roles.begin(), roles.end()})),
          Age(object, now),
          StringAt(object, {"status", "nodeInfo", "kubeletVersion"}),
          OrNone(internal),
          OrNone(external),
          info("osImage"),
          info("kernelVersion"),
          info("containerRuntimeVersion")};
}

std::vector<FieldError> ValidateNode(const Json& node, const Json* old, const RequestInfo&) {
  std::vector<FieldError> errors;
  const Json& taints = ArrayAt(node, {"spec", "taints"});
  for (std::size_t i = 0; i < taints.size(); ++i) {
    const std::string effect = StringAt(taints[i], {"effect"});
    const std::vector<std::string> effects{"NoSchedule", "PreferNoSchedule", "NoExecute"};
    if (!OneOf(effect, effects))
      errors.push_back(
          NotSupported("metadata.taints[" + std::to_string(i) + "].effect", effect, effects));
  }
  if (old != nullptr) {
    const std::string range = StringAt(*old, {"spec", "podCIDR"});
    if (!range.empty() && range != StringAt(node, {"spec", "podCIDR"}))
      errors.push_back(ForbiddenValue(
          "spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid"));
  }
  return errors;
}

}  // namespace

ResourceType MakeNodeType(const TypeBuilder& build) {
  ResourceType nodes = build.Make("", "v1", "nodes", "Node", false, {"no"});
  nodes.columns = {kName,
                   Column("Status"),
                   Column("Roles"),
                   kAge,
                   Column("Version"),
                   Column("Internal-IP", "string", 1),
                   Column("External-IP", "string", 1),
                   Column("OS-Image", "string", 1),
                   Column("Kernel-Version", "string", 1),
                   Column("Container-Runtime", "string", 1)};
  nodes.cells = NodeCells;
  nodes.validate = ValidateNode;
  build.IndexFields(nodes, {"spec.unschedulable"});
  return nodes;
}

}  // namespace pointsman::e2e
