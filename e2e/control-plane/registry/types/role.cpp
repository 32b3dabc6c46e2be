#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kRbac = "rbac.authorization.k8s.io";

std::vector<FieldError> validateRole(const Json& o, bool namespaced) {
  std::vector<FieldError> errors;
  const Json& rules = arrayAt(o, {"rules"});
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const std::string path = "rules[" + std::to_string(i) + "]";
    if (arrayAt(rules[i], {"verbs"}).empty()) {
      errors.push_back(required(path + ".verbs", "verbs must contain at least one value"));
    }
    if (!arrayAt(rules[i], {"nonResourceURLs"}).empty()) {
      if (namespaced) {
        errors.push_back(invalidValue(path + ".nonResourceURLs", rules[i]["nonResourceURLs"],
                                      "namespaced rules cannot apply to non-resource URLs"));
      }
      continue;
    }
    if (arrayAt(rules[i], {"apiGroups"}).empty()) {
      errors.push_back(
          required(path + ".apiGroups", "resource rules must supply at least one api group"));
    }
    if (arrayAt(rules[i], {"resources"}).empty()) {
      errors.push_back(
          required(path + ".resources", "resource rules must supply at least one resource"));
    }
  }
  return errors;
}

ResourceType makeRole(const TypeBuilder& build, const char* plural, const char* kind,
                      bool namespaced) {
  ResourceType roles = build.make(kRbac, "v1", plural, kind, namespaced);
  roles.columns = {kName, {"Created At", "date", "", "Created At", 0}};
  roles.cells = [](const Json& o, Clock::time_point) -> Cells {
    return {nameOf(o), stringAt(o, {"metadata", "creationTimestamp"})};
  };
  roles.validate = [namespaced](const Json& o, const Json*, const RequestInfo&) {
    return validateRole(o, namespaced);
  };
  return roles;
}

}  // namespace

ResourceType makeRoleType(const TypeBuilder& build) {
  return makeRole(build, "roles", "Role", true);
}

ResourceType makeClusterRoleType(const TypeBuilder& build) {
  return makeRole(build, "clusterroles", "ClusterRole", false);
}

}  // namespace pointsman::e2e
