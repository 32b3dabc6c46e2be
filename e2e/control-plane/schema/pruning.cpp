#include "e2e/control-plane/schema/pruning.h"

#include <utility>

namespace pointsman::e2e::schema {
namespace {

void PruneValue(Json& value, const Structural& s, bool resource, const std::string& path,
                std::vector<std::string>& removed);

void PruneObject(Json& object, const Structural& s, bool resource, const std::string& path,
                 std::vector<std::string>& removed) {
  for (auto it = object.begin(); it != object.end();) {
    const std::string& name = it.key();
    bool meta = resource && (name == "apiVersion" || name == "kind" || name == "metadata");
    const Structural* field = s.Field(name);
    if (meta || (!field && (s.preserve_unknown_fields || s.additional_properties_allowed))) {
      ++it;
      continue;
    }
    std::string at = Child(path, name);
    if (!field) {
      removed.push_back(std::move(at));
      it = object.erase(it);
      continue;
    }
    PruneValue(it.value(), *field, field->embedded_resource, at, removed);
    ++it;
  }
}

void PruneValue(Json& value, const Structural& s, bool resource, const std::string& path,
                std::vector<std::string>& removed) {
  if (value.is_object()) {
    PruneObject(value, s, resource, path, removed);
  } else if (value.is_array() && s.items) {
    for (size_t i = 0; i < value.size(); ++i) {
      PruneValue(value[i], *s.items, s.items->embedded_resource, Index(path, i), removed);
    }
  }
}

}  // namespace

std::vector<std::string> Prune(Json& object, const Structural& schema) {
  std::vector<std::string> removed;
  PruneValue(object, schema, true, "", removed);
  return removed;
}

}  // namespace pointsman::e2e::schema
