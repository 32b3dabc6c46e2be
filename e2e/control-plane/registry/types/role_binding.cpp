#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kRbacGroup = "rbac.authorization.k8s.io";

Cells BindingCells(const Json& o, Clock::time_point now) {
  std::vector<std::string> users;
  std::vector<std::string> groups;
  std::vector<std::string> service_accounts;
  for (const Json& s : ArrayAt(o, {"subjects"})) {
    const std::string subject_kind = StringAt(s, {"kind"});
    if (subject_kind == "User") users.push_back(StringAt(s, {"name"}));
    if (subject_kind == "Group") groups.push_back(StringAt(s, {"name"}));
    if (subject_kind == "ServiceAccount") {
      service_accounts.push_back(StringAt(s, {"namespace"}) + "/" + StringAt(s, {"name"}));
    }
  }
  return {
      NameOf(o),          StringAt(o, {"roleRef", "kind"}) + "/" + StringAt(o, {"roleRef", "name"}),
      Age(o, now),        Join(users, ", "),
      Join(groups, ", "), Join(service_accounts, ", ")};
}

std::vector<FieldError> ValidateBinding(const Json& o, const Json* old, bool namespaced) {
  std::vector<FieldError> errors;
  const std::string role_kind = StringAt(o, {"roleRef", "kind"});
  const std::vector<std::string> kinds = namespaced
                                             ? std::vector<std::string>{"Role", "ClusterRole"}
                                             : std::vector<std::string>{"ClusterRole"};
  if (!OneOf(role_kind, kinds)) errors.push_back(NotSupported("roleRef.kind", role_kind, kinds));
  if (StringAt(o, {"roleRef", "name"}).empty()) errors.push_back(Required("roleRef.name"));
  const Json& subjects = ArrayAt(o, {"subjects"});
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const std::string path = "subjects[" + std::to_string(i) + "]";
    const std::string subject_kind = StringAt(subjects[i], {"kind"});
    if (!OneOf(subject_kind, {"ServiceAccount", "User", "Group"})) {
      errors.push_back(
          NotSupported(path + ".kind", subject_kind, {"Group", "ServiceAccount", "User"}));
    }
    if (StringAt(subjects[i], {"name"}).empty()) errors.push_back(Required(path + ".name"));
    if (subject_kind == "ServiceAccount" && !namespaced &&
        StringAt(subjects[i], {"namespace"}).empty()) {
      errors.push_back(Required(path + ".namespace"));
    }
  }
  if (old != nullptr && (*old)["roleRef"] != o["roleRef"]) {
    errors.push_back(InvalidValue("roleRef", o["roleRef"], "cannot change roleRef"));
  }
  return errors;
}

ResourceType MakeBinding(const TypeBuilder& build, const char* plural, const char* kind,
                         bool namespaced) {
  ResourceType bindings = build.Make(kRbacGroup, "v1", plural, kind, namespaced);
  bindings.columns = {kName,
                      Column("Role"),
                      kAge,
                      Column("Users", "string", 1),
                      Column("Groups", "string", 1),
                      Column("ServiceAccounts", "string", 1)};
  bindings.cells = BindingCells;
  bindings.apply_defaults = [](Json& o) {
    if (o.contains("roleRef") && o["roleRef"].is_object()) {
      SetDefault(o["roleRef"], "apiGroup", kRbacGroup);
    }
    if (!o.contains("subjects") || !o["subjects"].is_array()) return;
    for (Json& s : o["subjects"]) {
      if (!s.is_object() || s.contains("apiGroup")) continue;
      if (s.value("kind", "") != "ServiceAccount") s["apiGroup"] = kRbacGroup;
    }
  };
  bindings.validate = [namespaced](const Json& o, const Json* old, const RequestInfo&) {
    return ValidateBinding(o, old, namespaced);
  };
  return bindings;
}

}  // namespace

ResourceType MakeRoleBindingType(const TypeBuilder& build) {
  return MakeBinding(build, "rolebindings", "RoleBinding", true);
}

ResourceType MakeClusterRoleBindingType(const TypeBuilder& build) {
  return MakeBinding(build, "clusterrolebindings", "ClusterRoleBinding", false);
}

}  // namespace pointsman::e2e
