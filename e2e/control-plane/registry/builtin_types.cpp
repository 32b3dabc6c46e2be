#include "e2e/control-plane/registry/builtin_types.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

// Types without rules of their own.

// Kept, not enforced: nothing here limits what a namespace may have.
ResourceType MakeResourceQuotaType(const TypeBuilder& build) {
  return build.Make("", "v1", "resourcequotas", "ResourceQuota", true, {"quota"});
}

ResourceType MakeAdmissionPolicyType(const TypeBuilder& build) {
  ResourceType policies =
      build.Make("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies",
                 "ValidatingAdmissionPolicy", false);
  policies.generations = true;
  policies.apply_defaults = [](Json& policy) {
    const auto spec = policy.find("spec");
    if (spec == policy.end() || !spec->is_object() || !spec->contains("matchConstraints")) return;
    Json& match = (*spec)["matchConstraints"];
    if (!match.is_object()) return;
    match.emplace("matchPolicy", "Equivalent");
    match.emplace("namespaceSelector", Json::object());
    match.emplace("objectSelector", Json::object());
    const auto rules = match.find("resourceRules");
    if (rules == match.end() || !rules->is_array()) return;
    for (Json& rule : *rules)
      if (rule.is_object()) rule.emplace("scope", "*");
  };
  return policies;
}

ResourceType MakeAdmissionPolicyBindingType(const TypeBuilder& build) {
  ResourceType bindings =
      build.Make("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings",
                 "ValidatingAdmissionPolicyBinding", false);
  bindings.generations = true;
  return bindings;
}

struct BuiltinType {
  ResourceType (*make)(const TypeBuilder& build);
  int since = 0;  // minor version
};

// In the order of discovery documents.
constexpr BuiltinType kBuiltinTypes[] = {
    {MakeNamespaceType},
    {MakeNodeType},
    {MakePodType},
    {MakeServiceType},
    {MakeEndpointsType},
    {MakeConfigMapType},
    {MakeSecretType},
    {MakeServiceAccountType},
    {MakeEventType},
    {MakeEventV1Type},
    {MakeEndpointSliceType},
    {MakeDaemonSetType},
    {MakeDeploymentType},
    {MakeReplicaSetType},
    {MakeControllerRevisionType},
    {MakeLeaseType},
    {MakeClusterRoleBindingType},
    {MakeClusterRoleType},
    {MakeRoleBindingType},
    {MakeRoleType},
    {MakePriorityClassType},
    {MakeResourceQuotaType},
    {MakeAdmissionPolicyType, 30},
    {MakeAdmissionPolicyBindingType, 30},
    {MakePodDisruptionBudgetType, 21},
    {MakeCustomResourceDefinitionType},
};

bool IsOneOf(const ResourceName& name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// In what the verbs differ from type to type, as the strategies in Kubernetes' pkg/registry say.
void SetVerbRules(ResourceType& type) {
  const ResourceName name = type.StoreName();
  type.created_by_update = type.group == "rbac.authorization.k8s.io" ||
                           IsOneOf(name, {"services", "endpoints", "events", "events.k8s.io/events",
                                          "coordination.k8s.io/leases"});
  type.unconditional_update =
      type.group != "admissionregistration.k8s.io" && type.group != "apiextensions.k8s.io" &&
      !IsOneOf(name, {"coordination.k8s.io/leases", "policy/poddisruptionbudgets"});
  type.returned_when_deleted =
      IsOneOf(name, {"services", "namespaces", "pods", "serviceaccounts", "resourcequotas"});
}

}  // namespace

void RegisterBuiltinTypes(Registry& registry, Store& store, const SchemaProvider& schemas,
                          const Emulation& emulation,
                          const std::function<void(ResourceType&)>& install_allocation) {
  const TypeBuilder build(store, schemas, emulation);
  for (const BuiltinType& builtin : kBuiltinTypes) {
    if (!emulation.AtLeast(builtin.since)) continue;
    ResourceType type = builtin.make(build);
    SetVerbRules(type);
    if (install_allocation && type.StoreName() == "services") install_allocation(type);
    registry.Add(std::move(type));
  }
}

}  // namespace pointsman::e2e
