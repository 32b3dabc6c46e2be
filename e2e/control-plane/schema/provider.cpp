#include "e2e/control-plane/schema/provider.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "e2e/control-plane/schema/defaulting.h"
#include "e2e/control-plane/schema/openapi_document.h"
#include "e2e/control-plane/schema/pruning.h"
#include "e2e/control-plane/schema/validate.h"

namespace pointsman::e2e::schema {
namespace {

void CheckDefaults(const Structural& s, const std::string& path, FieldErrors& errors) {
  if (s.default_value) {
    std::string at = Child(path, "default");
    Json value = *s.default_value;
    auto found = Validate(value, s, at);
    errors.insert(errors.end(), found.begin(), found.end());
    for (const auto& unknown : Prune(value, s)) {
      errors.push_back(Invalid(at, *s.default_value, "must not have unknown field: " + unknown));
    }
    auto rules = CheckRules(*s.default_value, nullptr, s);
    for (auto& error : rules) {
      error.field = at;
      errors.push_back(std::move(error));
    }
  }
  for (const auto& [name, property] : s.properties) {
    CheckDefaults(property, Key(Child(path, "properties"), name), errors);
  }
  if (s.items) CheckDefaults(*s.items, Child(path, "items"), errors);
  if (s.additional_properties) {
    CheckDefaults(*s.additional_properties, Child(path, "additionalProperties"), errors);
  }
}

class CompiledSchema : public ObjectSchema {
 public:
  CompiledSchema(const Json& schema, int minor) {
    FieldErrors structure;
    root_ = ParseSchema(schema, "openAPIV3Schema", minor, structure);
    FieldErrors errors;
    for (auto& error : structure) {
      if (error.field.ends_with(".pattern")) errors.push_back(std::move(error));
    }
    CompileRules(root_, "openAPIV3Schema", minor, errors);
    if (!errors.empty()) throw std::invalid_argument(Aggregate(errors));
    // Servers before 1.25 do not know of them.
    has_rules_ = minor >= 25 && schema.dump().find("x-kubernetes-validations") != std::string::npos;
  }

  void ApplyDefaults(Json& object) const override { schema::ApplyDefaults(object, root_); }

  void Prune(Json& object, std::vector<std::string>& dropped) const override {
    auto removed = schema::Prune(object, root_);
    dropped.insert(dropped.end(), removed.begin(), removed.end());
  }

  std::vector<e2e::FieldError> Validate(const Json& object, const Json* old) const override {
    FieldErrors errors = schema::Validate(object, root_);
    // Rules read the object by its schema: they run only on what has its shape.
    if (!has_rules_) return ToRegistry(errors);
    if (std::none_of(errors.begin(), errors.end(), Blocks)) {
      FieldErrors of_rules = CheckRules(object, old, root_);
      std::move(of_rules.begin(), of_rules.end(), std::back_inserter(errors));
      return ToRegistry(errors);
    }
    std::vector<e2e::FieldError> all = ToRegistry(errors);
    all.push_back({"<nil>", "FieldValueInvalid",
                   "Invalid value: null: some validation rules were not checked because the object "
                   "was invalid; correct the existing errors to complete validation"});
    return all;
  }

 private:
  // As apiextensions' hasBlockingErr.
  static bool Blocks(const FieldError& error) {
    switch (error.type) {
      case ErrorType::kNotSupported:
      case ErrorType::kRequired:
      case ErrorType::kTooLong:
      case ErrorType::kTooMany:
      case ErrorType::kTypeInvalid:
        return true;
      default:
        return false;
    }
  }

  bool has_rules_ = false;
  Structural root_;  // the rules' programs point into it: it is not moved
};

class Provider : public SchemaProvider {
 public:
  explicit Provider(const Emulation& emulation) : emulation_(emulation) {}

  std::vector<e2e::FieldError> Check(const Json& schema, const std::string& path) const override {
    return ToRegistry(CheckSchema(schema, path, emulation_.minor));
  }
  ObjectSchemaPtr Compile(const Json& schema) const override {
    return CompileSchema(schema, emulation_.minor);
  }
  std::string OpenApiV2Json(const std::vector<ResourceTypePtr>& types) const override {
    return openapi::BuildV2(types, emulation_).dump();
  }
  std::string OpenApiV2Protobuf(const std::vector<ResourceTypePtr>& types) const override {
    return openapi::EncodeV2(openapi::BuildV2(types, emulation_));
  }
  std::string OpenApiV3Json(const std::string& group, const std::string& version,
                            const std::vector<ResourceTypePtr>& types) const override {
    return openapi::BuildV3(group, version, types, emulation_).dump();
  }

 private:
  Emulation emulation_;
};

}  // namespace

FieldErrors CheckSchema(const Json& open_api_v3_schema, const std::string& path,
                        int kubernetes_minor) {
  FieldErrors errors;
  Structural root = ParseSchema(open_api_v3_schema, path, kubernetes_minor, errors);
  if (errors.empty()) CompileRules(root, path, kubernetes_minor, errors);
  if (errors.empty()) CheckDefaults(root, path, errors);
  return errors;
}

ObjectSchemaPtr CompileSchema(const Json& open_api_v3_schema, int kubernetes_minor) {
  return std::make_shared<const CompiledSchema>(open_api_v3_schema, kubernetes_minor);
}

std::vector<e2e::FieldError> ToRegistry(const FieldErrors& errors) {
  std::vector<e2e::FieldError> out;
  out.reserve(errors.size());
  for (const auto& error : errors) {
    out.push_back({error.field, std::string(error.Reason()), error.Body()});
  }
  return out;
}

}  // namespace pointsman::e2e::schema

namespace pointsman::e2e {

std::unique_ptr<SchemaProvider> MakeSchemaProvider(const Emulation& emulation) {
  return std::make_unique<schema::Provider>(emulation);
}

}  // namespace pointsman::e2e
