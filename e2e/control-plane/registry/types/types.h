// The builtin types with rules of their own, each with its columns, defaults and validation in a
// file of its name.
#pragma once

#include "e2e/control-plane/registry/types/cells.h"
#include "e2e/control-plane/registry/types/type_builder.h"

namespace pointsman::e2e {

ResourceType MakeNamespaceType(const TypeBuilder& build);
ResourceType MakeNodeType(const TypeBuilder& build);
ResourceType MakePodType(const TypeBuilder& build);
ResourceType MakeServiceType(const TypeBuilder& build);
ResourceType MakeEndpointsType(const TypeBuilder& build);
ResourceType MakeConfigMapType(const TypeBuilder& build);
ResourceType MakeSecretType(const TypeBuilder& build);
ResourceType MakeServiceAccountType(const TypeBuilder& build);
ResourceType MakeEventType(const TypeBuilder& build);
ResourceType MakeEventV1Type(const TypeBuilder& build);
ResourceType MakeEndpointSliceType(const TypeBuilder& build);
ResourceType MakeDaemonSetType(const TypeBuilder& build);
ResourceType MakeDeploymentType(const TypeBuilder& build);
ResourceType MakeReplicaSetType(const TypeBuilder& build);
ResourceType MakeControllerRevisionType(const TypeBuilder& build);
ResourceType MakeLeaseType(const TypeBuilder& build);
ResourceType MakeRoleType(const TypeBuilder& build);
ResourceType MakeClusterRoleType(const TypeBuilder& build);
ResourceType MakeRoleBindingType(const TypeBuilder& build);
ResourceType MakeClusterRoleBindingType(const TypeBuilder& build);
ResourceType MakePriorityClassType(const TypeBuilder& build);
ResourceType MakePodDisruptionBudgetType(const TypeBuilder& build);
ResourceType MakeCustomResourceDefinitionType(const TypeBuilder& build);

}  // namespace pointsman::e2e
