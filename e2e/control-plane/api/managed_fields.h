#pragma once

#include <string>

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// Who writes, for metadata.managedFields.
struct FieldWriter {
  std::string manager;
  std::string api_version;
  std::string subresource;
};

// Field ownership as server-side apply defines it (KEP-555, FieldsV1). `schema` is the OpenAPI
// schema of the object; lists are merged by x-kubernetes-list-type and -list-map-keys.

// After a create, update or patch: what `now` changed against `live` (null on creation) belongs to
// the writer and to nobody else. Sets now.metadata.managedFields.
void TrackUpdate(Json& now, const Json* live, const FieldWriter& writer, const Json& schema);

// The object that results from applying `config` to `live` (null: creation), with managedFields
// set. Fields the manager applied before and leaves out now are removed, unless others own them.
// Throws StatusError 409 with one cause per conflict unless `force`.
Json ServerSideApply(const Json* live, const Json& config, const FieldWriter& writer, bool force,
                     const Json& schema);

}  // namespace pointsman::e2e
