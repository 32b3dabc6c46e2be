#pragma once

#include <string>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

// Makes what all builtin types have in common. All that it refers to outlives it and the types.
class TypeBuilder {
 public:
  TypeBuilder(Store& store, const SchemaProvider& schemas, const Emulation& emulation)
      : store_(store), schemas_(schemas), emulation_(emulation) {}

  Store& store() const { return store_; }
  const Emulation& emulation() const { return emulation_; }

  // Name and age are its columns. `schema`: the name in builtin_schemas.cpp; empty: the kind.
  ResourceType Make(const std::string& group, const std::string& version, const std::string& plural,
                    const std::string& kind, bool namespaced,
                    std::vector<std::string> short_names = {},
                    const std::string& schema = "") const;

  // Makes these fields selectable.
  void IndexFields(ResourceType& type, std::vector<std::string> fields) const;

 private:
  Store& store_;
  const SchemaProvider& schemas_;
  const Emulation& emulation_;
};

// Sets a field that is absent or an empty string.
void SetDefault(Json& object, const char* field, const Json& value);
// Sets a field only where it is absent: 0 and false are values.
void SetDefaultNumber(Json& object, const char* field, const Json& value);
// The member, an empty object where there is none.
Json& ObjectIn(Json& object, const char* field);

}  // namespace pointsman::e2e
