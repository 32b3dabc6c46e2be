#include "e2e/control-plane/registry/builtin_types.h"

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
  return policies;
}

ResourceType MakeAdmissionPolicyBindingType(const TypeBuilder& build) {
  return build.Make("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings",
                    "ValidatingAdmissionPolicyBinding", false);
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
    {MakeRoleType},
    {MakeClusterRoleType},
    {MakeRoleBindingType},
    {MakeClusterRoleBindingType},
    {MakePriorityClassType},
    {MakeResourceQuotaType},
    {MakeAdmissionPolicyType, 30},
    {MakeAdmissionPolicyBindingType, 30},
    {MakePodDisruptionBudgetType, 21},
    {MakeCustomResourceDefinitionType},
};

}  // namespace

void RegisterBuiltinTypes(Registry& registry, Store& store, const SchemaProvider& schemas,
                          const Emulation& emulation,
                          const std::function<void(ResourceType&)>& install_allocation) {
  const TypeBuilder build(store, schemas, emulation);
  for (const BuiltinType& builtin : kBuiltinTypes) {
    if (!emulation.AtLeast(builtin.since)) continue;
    ResourceType type = builtin.make(build);
    if (install_allocation && type.StoreName() == "services") install_allocation(type);
    registry.Add(std::move(type));
  }
}

}  // namespace pointsman::e2e
