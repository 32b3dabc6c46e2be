// The OpenAPI documents that kubectl explains, validates and merges by.
#pragma once

#include <string>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e::openapi {

// Swagger 2.0 with a definition per type ("io.k8s.api.core.v1.Service", "io.pointsman.v1alpha1.X"),
// and the paths with the query parameters that kubectl looks for (fieldValidation, dryRun).
Json BuildV2(const std::vector<ResourceTypePtr>& types, const Emulation& emulation);

// OpenAPI 3.0 of one group version.
Json BuildV3(const std::string& group, const std::string& version,
             const std::vector<ResourceTypePtr>& types, const Emulation& emulation);

// A v2 document as the protobuf message openapi.v2.Document (field numbers of gnostic's
// openapiv2/OpenAPIv2.proto): application/com.github.proto-openapi.spec.v2@v1.0+protobuf.
std::string EncodeV2(const Json& document);

}  // namespace pointsman::e2e::openapi
