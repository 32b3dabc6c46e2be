// The part of admission that is the same for every type: identity and metadata of a written object.
#pragma once

#include <vector>

#include "e2e/control-plane/api/request.h"

namespace pointsman::e2e {

// Fills in apiVersion, kind, name and namespace from the request. Throws StatusError 400 where
// they contradict it, or metadata has another shape than ObjectMeta.
void CheckIdentity(Json& object, const Target& target);

// Drops the fields that neither ObjectMeta nor the type knows, and reports them as the client
// wants it: a StatusError 400 (Strict), warnings (Warn) or nothing (Ignore).
void DropUnknownFields(Json& object, const Target& target, RequestContext& context);

std::vector<FieldError> ValidateMetadata(const Json& object, const ResourceType& type);

}  // namespace pointsman::e2e
