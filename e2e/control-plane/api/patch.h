#pragma once

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// RFC 6902. Throws StatusError 400 (malformed) or 422 (cannot be applied).
void ApplyJsonPatch(Json& object, const Json& patch);

// RFC 7396.
void ApplyMergePatch(Json& object, const Json& patch);

// A strategic merge patch, led by the x-kubernetes-patch-* extensions of `schema`; understands
// $patch (replace, delete, merge), $deleteFromPrimitiveList, $setElementOrder and $retainKeys.
// Throws StatusError 400 for a malformed patch.
void ApplyStrategicMergePatch(Json& object, const Json& patch, const Json& schema);

}  // namespace pointsman::e2e
