// The builtin types with rules of their own, each with its columns, defaults and validation in a
// file of its name.
#pragma once

#include "e2e/control-plane/registry/types/cells.h"
#include "e2e/control-plane/registry/types/type_builder.h"

namespace pointsman::e2e {

ResourceType makeNamespaceType(const TypeBuilder& build);
ResourceType makeNodeType(const TypeBuilder& build);
ResourceType makePodType(const TypeBuilder& build);
ResourceType makeServiceType(const TypeBuilder& build);
ResourceType makeEndpointsType(const TypeBuilder& build);
ResourceType makeConfigMapType(const TypeBuilder& build);
ResourceType makeSecretType(const TypeBuilder& build);
ResourceType makeServiceAccountType(const TypeBuilder& build);
ResourceType makeEventType(const TypeBuilder& build);
ResourceType makeEventV1Type(const TypeBuilder& build);
ResourceType makeEndpointSliceType(const TypeBuilder& build);
ResourceType makeDaemonSetType(const TypeBuilder& build);
ResourceType makeDeploymentType(const TypeBuilder& build);
ResourceType makeReplicaSetType(const TypeBuilder& build);
ResourceType makeControllerRevisionType(const TypeBuilder& build);
ResourceType makeLeaseType(const TypeBuilder& build);
ResourceType makeRoleType(const TypeBuilder& build);
ResourceType makeClusterRoleType(const TypeBuilder& build);
ResourceType makeRoleBindingType(const TypeBuilder& build);
ResourceType makeClusterRoleBindingType(const TypeBuilder& build);
ResourceType makePriorityClassType(const TypeBuilder& build);
ResourceType makePodDisruptionBudgetType(const TypeBuilder& build);
ResourceType makeCustomResourceDefinitionType(const TypeBuilder& build);

}  // namespace pointsman::e2e
