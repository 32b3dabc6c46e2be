#include "e2e/control-plane/schema/json_schema_props.h"

#include <functional>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::e2e::schema {
namespace {

enum class Form { kText, kFlag, kInt, kNumber, kTexts, kAny, kSchema, kSchemas, kSchemaMap };

struct Field {
  Form form;
  int since = 20;
};

const std::map<std::string, Field, std::less<>>& Fields() {
  static const std::map<std::string, Field, std::less<>> fields = {
      {"$ref", {Form::kText}},
      {"$schema", {Form::kText}},
      {"additionalItems", {Form::kAny}},
      {"additionalProperties", {Form::kAny}},
      {"allOf", {Form::kSchemas}},
      {"anyOf", {Form::kSchemas}},
      {"default", {Form::kAny}},
      {"definitions", {Form::kSchemaMap}},
      {"dependencies", {Form::kAny}},
      {"description", {Form::kText}},
      {"enum", {Form::kAny}},
      {"example", {Form::kAny}},
      {"exclusiveMaximum", {Form::kFlag}},
      {"exclusiveMinimum", {Form::kFlag}},
      {"externalDocs", {Form::kAny}},
      {"format", {Form::kText}},
      {"id", {Form::kText}},
      {"items", {Form::kAny}},
      {"maxItems", {Form::kInt}},
      {"maxLength", {Form::kInt}},
      {"maxProperties", {Form::kInt}},
      {"maximum", {Form::kNumber}},
      {"minItems", {Form::kInt}},
      {"minLength", {Form::kInt}},
      {"minProperties", {Form::kInt}},
      {"minimum", {Form::kNumber}},
      {"multipleOf", {Form::kNumber}},
      {"not", {Form::kSchema}},
      {"nullable", {Form::kFlag}},
      {"oneOf", {Form::kSchemas}},
      {"pattern", {Form::kText}},
      {"patternProperties", {Form::kSchemaMap}},
      {"properties", {Form::kSchemaMap}},
      {"required", {Form::kTexts}},
      {"title", {Form::kText}},
      {"type", {Form::kText}},
      {"uniqueItems", {Form::kFlag}},
      {"x-kubernetes-embedded-resource", {Form::kFlag}},
      {"x-kubernetes-int-or-string", {Form::kFlag}},
      {"x-kubernetes-list-map-keys", {Form::kTexts}},
      {"x-kubernetes-list-type", {Form::kText}},
      {"x-kubernetes-map-type", {Form::kText}},
      {"x-kubernetes-preserve-unknown-fields", {Form::kFlag}},
      {"x-kubernetes-validations", {Form::kAny, 23}},
  };
  return fields;
}

Json Typed(const char* type) {
  return {{"type", type}};
}

Json ListOf(Json item) {
  return {{"type", "array"}, {"items", std::move(item)}};
}

Json SchemaOf(Form form, const Json& self) {
  switch (form) {
    case Form::kText:
      return Typed("string");
    case Form::kFlag:
      return Typed("boolean");
    case Form::kInt:
      return Typed("integer");
    case Form::kNumber:
      return Typed("number");
    case Form::kTexts:
      return ListOf(Typed("string"));
    case Form::kSchema:
      return self;
    case Form::kSchemas:
      return ListOf(self);
    case Form::kSchemaMap:
      return {{"type", "object"}, {"additionalProperties", self}};
    case Form::kAny:
      break;
  }
  return Json::object();
}

void Collect(const Json& schema, int minor, const std::string& path,
             std::vector<std::string>& undeclared) {
  if (!schema.is_object()) return;
  for (const auto& [name, value] : schema.items()) {
    const std::string here = fmt::format("{}.{}", path, name);
    const auto field = Fields().find(name);
    if (field == Fields().end() || field->second.since > minor) {
      undeclared.push_back(here);
      continue;
    }
    const Form form = field->second.form;
    if (form == Form::kSchema) {
      Collect(value, minor, here, undeclared);
    } else if (form == Form::kSchemas && value.is_array()) {
      for (size_t i = 0; i < value.size(); ++i) {
        Collect(value[i], minor, fmt::format("{}[{}]", here, i), undeclared);
      }
    } else if (form == Form::kSchemaMap && value.is_object()) {
      for (const auto& [key, property] : value.items())
        Collect(property, minor, fmt::format("{}.{}", here, key), undeclared);
    }
  }
}

}  // namespace

Json JsonSchemaPropsDefinition(const std::string& ref, int kubernetes_minor) {
  Json definition = {{"type", "object"}, {"description", "A JSON schema."}};
  const Json self = {{"$ref", ref}};
  for (const auto& [name, field] : Fields()) {
    if (field.since <= kubernetes_minor)
      definition["properties"][name] = SchemaOf(field.form, self);
  }
  return definition;
}

std::vector<std::string> UndeclaredFields(const Json& schema, int kubernetes_minor) {
  std::vector<std::string> undeclared;
  Collect(schema, kubernetes_minor, "", undeclared);
  return undeclared;
}

}  // namespace pointsman::e2e::schema
