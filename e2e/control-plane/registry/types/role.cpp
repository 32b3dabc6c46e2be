#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kRbac = "rbac.authorization.k8s.io";

std::vector<FieldError> ValidateRole(const Json& o, bool namespaced) {
  std::vector<FieldError> errors;
  const Json& rules = ArrayAt(o, {"rules"});
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const std::string path = "rules[" + std::to_string(i) + "]";
    // The schema wants the field.
    if (rules[i].contains("verbs") && ArrayAt(rules[i], {"verbs"}).empty()) {
      errors.push_back(Required(path + ".verbs", "verbs must contain at least one value"));
    }
    if (!ArrayAt(rules[i], {"nonResourceURLs"}).empty()) {
      if (namespaced) {
        errors.push_back(InvalidValue(path + ".nonResourceURLs", rules[i]["nonResourceURLs"],
                                      "namespaced rules cannot apply to non-resource URLs"));
      }
      continue;
    }
    if (ArrayAt(rules[i], {"apiGroups"}).empty()) {
      errors.push_back(
          Required(path + ".apiGroups", "resource rules must supply at least one api group"));
    }
    if (ArrayAt(rules[i], {"resources"}).empty()) {
      errors.push_back(
          Required(path + ".resources", "resource rules must supply at least one resource"));
    }
  }
  return errors;
}

ResourceType MakeRole(const TypeBuilder& build, const char* plural, const char* kind,
                      bool namespaced) {
  ResourceType roles = build.Make(kRbac, "v1", plural, kind, namespaced);
  roles.columns = {kName, {"Created At", "date", "", "Created At", 0}};
  roles.cells = [](const Json& o, Clock::time_point) -> Cells {
    return {NameOf(o), StringAt(o, {"metadata", "creationTimestamp"})};
  };
  roles.validate = [namespaced](const Json& o, const Json*, const RequestInfo&) {
    return ValidateRole(o, namespaced);
  };
  return roles;
}

}  // namespace

ResourceType MakeRoleType(const TypeBuilder& build) {
  return MakeRole(build, "roles", "Role", true);
}

ResourceType MakeClusterRoleType(const TypeBuilder& build) {
  return MakeRole(build, "clusterroles", "ClusterRole", false);
}

}  // namespace pointsman::e2e
