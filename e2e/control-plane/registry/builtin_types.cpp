#include "e2e/control-plane/registry/builtin_types.h"

#include <utility>

#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

// Types without rules of their own.

// Kept, not enforced: nothing here limits what a namespace may have.
ResourceType makeResourceQuotaType(const TypeBuilder& build) {
  return build.make("", "v1", "resourcequotas", "ResourceQuota", true, {"quota"});
}

ResourceType makeAdmissionPolicyType(const TypeBuilder& build) {
  ResourceType policies =
      build.make("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies",
                 "ValidatingAdmissionPolicy", false);
  policies.generations = true;
  return policies;
}

ResourceType makeAdmissionPolicyBindingType(const TypeBuilder& build) {
  return build.make("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings",
                    "ValidatingAdmissionPolicyBinding", false);
}

struct BuiltinType {
  ResourceType (*make)(const TypeBuilder& build);
  int since = 0;  // minor version
};

// In the order of discovery documents.
constexpr BuiltinType kBuiltinTypes[] = {
    {makeNamespaceType},
    {makeNodeType},
    {makePodType},
    {makeServiceType},
    {makeEndpointsType},
    {makeConfigMapType},
    {makeSecretType},
    {makeServiceAccountType},
    {makeEventType},
    {makeEventV1Type},
    {makeEndpointSliceType},
    {makeDaemonSetType},
    {makeDeploymentType},
    {makeReplicaSetType},
    {makeControllerRevisionType},
    {makeLeaseType},
    {makeRoleType},
    {makeClusterRoleType},
    {makeRoleBindingType},
    {makeClusterRoleBindingType},
    {makePriorityClassType},
    {makeResourceQuotaType},
    {makeAdmissionPolicyType, 30},
    {makeAdmissionPolicyBindingType, 30},
    {makePodDisruptionBudgetType, 21},
    {makeCustomResourceDefinitionType},
};

}  // namespace

void registerBuiltinTypes(Registry& registry, Store& store, const SchemaProvider& schemas,
                          const Emulation& emulation,
                          const std::function<void(ResourceType&)>& installAllocation) {
  const TypeBuilder build(store, schemas, emulation);
  for (const BuiltinType& builtin : kBuiltinTypes) {
    if (!emulation.atLeast(builtin.since)) continue;
    ResourceType type = builtin.make(build);
    if (installAllocation && type.storeName() == "services") installAllocation(type);
    registry.add(std::move(type));
  }
}

}  // namespace pointsman::e2e
