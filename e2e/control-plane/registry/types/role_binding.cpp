#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kRbacGroup = "rbac.authorization.k8s.io";

Cells bindingCells(const Json& o, Clock::time_point now) {
  std::vector<std::string> users;
  std::vector<std::string> groups;
  std::vector<std::string> serviceAccounts;
  for (const Json& s : arrayAt(o, {"subjects"})) {
    const std::string subjectKind = stringAt(s, {"kind"});
    if (subjectKind == "User") users.push_back(stringAt(s, {"name"}));
    if (subjectKind == "Group") groups.push_back(stringAt(s, {"name"}));
    if (subjectKind == "ServiceAccount") {
      serviceAccounts.push_back(stringAt(s, {"namespace"}) + "/" + stringAt(s, {"name"}));
    }
  }
  return {
      nameOf(o),          stringAt(o, {"roleRef", "kind"}) + "/" + stringAt(o, {"roleRef", "name"}),
      age(o, now),        join(users, ", "),
      join(groups, ", "), join(serviceAccounts, ", ")};
}

std::vector<FieldError> validateBinding(const Json& o, const Json* old, bool namespaced) {
  std::vector<FieldError> errors;
  const std::string roleKind = stringAt(o, {"roleRef", "kind"});
  const std::vector<std::string> kinds = namespaced
                                             ? std::vector<std::string>{"Role", "ClusterRole"}
                                             : std::vector<std::string>{"ClusterRole"};
  if (!oneOf(roleKind, kinds)) errors.push_back(notSupported("roleRef.kind", roleKind, kinds));
  if (stringAt(o, {"roleRef", "name"}).empty()) errors.push_back(required("roleRef.name"));
  const Json& subjects = arrayAt(o, {"subjects"});
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const std::string path = "subjects[" + std::to_string(i) + "]";
    const std::string subjectKind = stringAt(subjects[i], {"kind"});
    if (!oneOf(subjectKind, {"ServiceAccount", "User", "Group"})) {
      errors.push_back(
          notSupported(path + ".kind", subjectKind, {"Group", "ServiceAccount", "User"}));
    }
    if (stringAt(subjects[i], {"name"}).empty()) errors.push_back(required(path + ".name"));
    if (subjectKind == "ServiceAccount" && !namespaced &&
        stringAt(subjects[i], {"namespace"}).empty()) {
      errors.push_back(required(path + ".namespace"));
    }
  }
  if (old != nullptr && (*old)["roleRef"] != o["roleRef"]) {
    errors.push_back(invalidValue("roleRef", o["roleRef"], "cannot change roleRef"));
  }
  return errors;
}

ResourceType makeBinding(const TypeBuilder& build, const char* plural, const char* kind,
                         bool namespaced) {
  ResourceType bindings = build.make(kRbacGroup, "v1", plural, kind, namespaced);
  bindings.columns = {kName,
                      column("Role"),
                      kAge,
                      column("Users", "string", 1),
                      column("Groups", "string", 1),
                      column("ServiceAccounts", "string", 1)};
  bindings.cells = bindingCells;
  bindings.applyDefaults = [](Json& o) {
    if (o.contains("roleRef") && o["roleRef"].is_object()) {
      setDefault(o["roleRef"], "apiGroup", kRbacGroup);
    }
    if (!o.contains("subjects") || !o["subjects"].is_array()) return;
    for (Json& s : o["subjects"]) {
      if (!s.is_object() || s.contains("apiGroup")) continue;
      if (s.value("kind", "") != "ServiceAccount") s["apiGroup"] = kRbacGroup;
    }
  };
  bindings.validate = [namespaced](const Json& o, const Json* old, const RequestInfo&) {
    return validateBinding(o, old, namespaced);
  };
  return bindings;
}

}  // namespace

ResourceType makeRoleBindingType(const TypeBuilder& build) {
  return makeBinding(build, "rolebindings", "RoleBinding", true);
}

ResourceType makeClusterRoleBindingType(const TypeBuilder& build) {
  return makeBinding(build, "clusterrolebindings", "ClusterRoleBinding", false);
}

}  // namespace pointsman::e2e
