#include "e2e/control-plane/registry/types/type_builder.h"

#include <algorithm>
#include <utility>

#include "e2e/control-plane/registry/builtin_schemas.h"
#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/types/cells.h"

namespace pointsman::e2e {
namespace {

std::vector<std::string> splitField(const std::string& field) {
  std::vector<std::string> path;
  std::size_t start = 0;
  while (start <= field.size()) {
    const auto dot = std::min(field.find('.', start), field.size());
    path.push_back(field.substr(start, dot - start));
    start = dot + 1;
  }
  return path;
}

std::string fieldText(const Json& object, const std::vector<std::string>& path) {
  const Json* value = &object;
  for (const std::string& name : path) {
    if (!value->is_object() || !value->contains(name)) return "";
    value = &(*value)[name];
  }
  return value->is_string() ? value->get<std::string>() : value->dump();
}

}  // namespace

ResourceType TypeBuilder::make(const std::string& group, const std::string& version,
                               const std::string& plural, const std::string& kind, bool namespaced,
                               std::vector<std::string> shortNames,
                               const std::string& schema) const {
  ResourceType type;
  type.group = group;
  type.version = version;
  type.storageVersion = version;
  type.plural = plural;
  type.kind = kind;
  type.listKind = kind + "List";
  type.singular = lowerCase(kind);
  type.namespaced = namespaced;
  type.shortNames = std::move(shortNames);
  type.openApiSchema = builtinSchema(schema.empty() ? kind : schema, emulation_);
  type.schema = schemas_.compile(type.openApiSchema);
  type.hasStatus = type.openApiSchema["properties"].contains("status");
  type.columns = {kName, kAge};
  type.cells = [](const Json& object, Clock::time_point now) -> Cells {
    return {nameOf(object), age(object, now)};
  };
  return type;
}

void TypeBuilder::indexFields(ResourceType& type, std::vector<std::string> fields) const {
  type.selectableFields = fields;
  std::vector<std::vector<std::string>> paths;
  for (const std::string& field : fields)
    paths.push_back(splitField(field));
  store_.setFieldIndexer(
      type.storeName(), [fields = std::move(fields), paths = std::move(paths)](const Json& object) {
        std::vector<std::pair<std::string, std::string>> values;
        for (std::size_t i = 0; i < fields.size(); ++i) {
          std::string text = fieldText(object, paths[i]);
          if (text.empty() && fields[i] == "spec.unschedulable") text = "false";
          values.emplace_back(fields[i], std::move(text));
        }
        return values;
      });
}

void setDefault(Json& object, const char* field, const Json& value) {
  if (!object.contains(field) || isEmptyString(object[field])) object[field] = value;
}

void setDefaultNumber(Json& object, const char* field, const Json& value) {
  if (!object.contains(field)) object[field] = value;
}

Json& objectIn(Json& object, const char* field) {
  Json& member = object[field];
  if (member.is_null()) member = Json::object();
  return member;
}

}  // namespace pointsman::e2e
