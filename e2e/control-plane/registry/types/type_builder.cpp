#include "e2e/control-plane/registry/types/type_builder.h"

#include <algorithm>
#include <utility>

#include "e2e/control-plane/registry/builtin_schemas.h"
#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/types/cells.h"
#include "kube/text/ascii.h"

namespace pointsman::e2e {
namespace {

std::vector<std::string> SplitField(const std::string& field) {
  std::vector<std::string> path;
  std::size_t start = 0;
  while (start <= field.size()) {
    const auto dot = std::min(field.find('.', start), field.size());
    path.push_back(field.substr(start, dot - start));
    start = dot + 1;
  }
  return path;
}

std::string FieldText(const Json& object, const std::vector<std::string>& path) {
  const Json* value = &object;
  for (const std::string& name : path) {
    if (!value->is_object() || !value->contains(name)) return "";
    value = &(*value)[name];
  }
  return value->is_string() ? value->get<std::string>() : value->dump();
}

}  // namespace

ResourceType TypeBuilder::Make(const std::string& group, const std::string& version,
                               const std::string& plural, const std::string& kind, bool namespaced,
                               std::vector<std::string> short_names,
                               const std::string& schema) const {
  ResourceType type;
  type.group = group;
  type.version = version;
  type.storage_version = version;
  type.plural = plural;
  type.kind = kind;
  type.list_kind = kind + "List";
  type.singular = text::ToLowerAscii(kind);
  type.namespaced = namespaced;
  type.short_names = std::move(short_names);
  type.open_api_schema = BuiltinSchema(schema.empty() ? kind : schema, emulation_);
  type.schema = schemas_.Compile(type.open_api_schema);
  type.has_status = type.open_api_schema["properties"].contains("status");
  type.columns = {kName, kAge};
  type.cells = [](const Json& object, Clock::time_point now) -> Cells {
    return {NameOf(object), Age(object, now)};
  };
  return type;
}

void TypeBuilder::IndexFields(ResourceType& type, std::vector<std::string> fields) const {
  type.selectable_fields = fields;
  std::vector<std::vector<std::string>> paths;
  paths.reserve(fields.size());
  for (const std::string& field : fields)
    paths.push_back(SplitField(field));
  store_.SetFieldIndexer(
      type.StoreName(), [fields = std::move(fields), paths = std::move(paths)](const Json& object) {
        std::vector<std::pair<std::string, std::string>> values;
        for (std::size_t i = 0; i < fields.size(); ++i) {
          std::string text = FieldText(object, paths[i]);
          if (text.empty() && fields[i] == "spec.unschedulable") text = "false";
          values.emplace_back(fields[i], std::move(text));
        }
        return values;
      });
}

void SetDefault(Json& object, const char* field, const Json& value) {
  if (!object.contains(field) || IsEmptyString(object[field])) object[field] = value;
}

void SetDefaultNumber(Json& object, const char* field, const Json& value) {
  if (!object.contains(field)) object[field] = value;
}

Json& ObjectIn(Json& object, const char* field) {
  Json& member = object[field];
  if (member.is_null()) member = Json::object();
  return member;
}

}  // namespace pointsman::e2e
