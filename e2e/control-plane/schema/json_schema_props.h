// The fields of a schema in a CustomResourceDefinition, as the API of each Kubernetes version
// declares them: apiextensions.k8s.io/v1 JSONSchemaProps.
#pragma once

#include <string>
#include <vector>

#include "e2e/control-plane/schema/structural.h"

namespace pointsman::e2e::schema {

inline constexpr const char* kJsonSchemaProps =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

// Its definition for an OpenAPI document, by which kubectl validates; `ref` is the "$ref" to the
// definition itself.
Json JsonSchemaPropsDefinition(const std::string& ref, int kubernetes_minor);

// The paths (".properties.spec.x-kubernetes-validations") below `schema` of the fields that this
// version does not declare. What is under items, additionalProperties, default and the like has no
// declared form there: neither kubectl nor a server-side apply looks into it.
std::vector<std::string> UndeclaredFields(const Json& schema, int kubernetes_minor);

}  // namespace pointsman::e2e::schema
