#include "e2e/control-plane/schema/structural.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string_view>
#include <type_traits>
#include <utility>

#include <re2/re2.h>

#include "e2e/control-plane/schema/cel/program.h"

namespace pointsman::e2e::schema {
namespace {

enum class Level { kRoot, kItem, kField };

const std::set<std::string>& Types() {
  static const auto& types =
      *new std::set<std::string>{"array", "boolean", "integer", "number", "object", "string"};
  return types;
}

bool IsIntOrStringAnyOf(const Json& schema) {
  static const Json& pattern =
      *new Json(Json::array({{{"type", "integer"}}, {{"type", "string"}}}));
  return schema.contains("anyOf") && schema.at("anyOf") == pattern;
}

class Parser {
 public:
  Parser(int minor, FieldErrors& errors) : minor_(minor), errors_(errors) {}

  Structural Parse(const Json& in, const std::string& path, Level level, bool in_metadata) {
    Structural s;
    if (!CheckObject(in, path)) return s;
    ReadExtensions(in, path, s);
    CheckUnsupported(in, path);
    s.type = String(in, "type", path);
    if (!s.type.empty() && !Types().contains(s.type)) {
      errors_.push_back(
          NotSupported(Child(path, "type"), s.type, {Types().begin(), Types().end()}));
    }
    s.nullable = Bool(in, "nullable", path);
    if (in.contains("default")) s.default_value = in.at("default");
    String(in, "title", path);
    String(in, "description", path);

    bool skip_any_of = s.int_or_string && IsIntOrStringAnyOf(in);
    bool skip_first_all_of = s.int_or_string && in.contains("allOf") && in["allOf"].is_array() &&
                             !in["allOf"].empty() && in["allOf"][0].is_object() &&
                             IsIntOrStringAnyOf(in["allOf"][0]);
    ReadValidation(in, path, level, skip_any_of, skip_first_all_of, s);

    if (in.contains("items")) {
      if (in["items"].is_array()) {
        errors_.push_back(
            Forbidden(Child(path, "items"), "items must be a schema object and not an array"));
      } else {
        s.items = std::make_unique<Structural>(
            Parse(in["items"], Child(path, "items"), Level::kItem, false));
      }
    } else if (s.type == "array") {
      errors_.push_back(Required(Child(path, "items"), "must be specified"));
    }
    bool check_metadata = level == Level::kRoot || s.embedded_resource;
    if (in.contains("properties") && CheckObject(in["properties"], Child(path, "properties"))) {
      for (const auto& [name, value] : in["properties"].items()) {
        std::string at = Key(Child(path, "properties"), name);
        s.properties.emplace(name,
                             Parse(value, at, Level::kField, check_metadata && name == "metadata"));
        if (check_metadata) CheckMeta(name, value, at, level);
      }
    }
    ReadAdditionalProperties(in, path, level, s);
    CheckType(path, level, s);
    CheckListAndMap(in, path, s);
    if (in_metadata && s.embedded_resource) {
      errors_.push_back(Forbidden(Child(path, "x-kubernetes-embedded-resource"),
                                  "must not be used inside of resource meta"));
    }
    return s;
  }

 private:
  bool CheckObject(const Json& in, const std::string& path) {
    if (in.is_object()) return true;
    errors_.push_back(Invalid(path, in, "must be an object"));
    return false;
  }

  std::string String(const Json& in, const char* key, const std::string& path) {
    auto found = in.find(key);
    if (found == in.end() || found->is_null()) return "";
    if (found->is_string()) return found->get<std::string>();
    errors_.push_back(Invalid(Child(path, key), *found, "must be a string"));
    return "";
  }

  bool Bool(const Json& in, const char* key, const std::string& path) {
    auto found = in.find(key);
    if (found == in.end() || found->is_null()) return false;
    if (found->is_boolean()) return found->get<bool>();
    errors_.push_back(Invalid(Child(path, key), *found, "must be a boolean"));
    return false;
  }

  template <typename T>
  std::optional<T> Number(const Json& in, const char* key, const std::string& path) {
    auto found = in.find(key);
    if (found == in.end() || found->is_null()) return std::nullopt;
    if (std::is_integral_v<T> ? found->is_number_integer() : found->is_number()) {
      return found->get<T>();
    }
    errors_.push_back(Invalid(Child(path, key), *found,
                              std::is_integral_v<T> ? "must be an integer" : "must be a number"));
    return std::nullopt;
  }

  std::vector<std::string> Strings(const Json& in, const char* key, const std::string& path) {
    std::vector<std::string> out;
    auto found = in.find(key);
    if (found == in.end() || found->is_null()) return out;
    bool ok = found->is_array();
    for (const auto& item : ok ? *found : Json::array()) {
      ok = ok && item.is_string();
      if (item.is_string()) out.push_back(item);
    }
    if (!ok) errors_.push_back(Invalid(Child(path, key), *found, "must be a list of strings"));
    return out;
  }

  void CheckUnsupported(const Json& in, const std::string& path) {
    for (const char* key :
         {"id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"}) {
      if (in.contains(key)) {
        errors_.push_back(Forbidden(Child(path, key), std::string(key) + " is not supported"));
      }
    }
  }

  void ReadExtensions(const Json& in, const std::string& path, Structural& s) {
    s.int_or_string = Bool(in, "x-kubernetes-int-or-string", path);
    s.embedded_resource = Bool(in, "x-kubernetes-embedded-resource", path);
    s.preserve_unknown_fields = Bool(in, "x-kubernetes-preserve-unknown-fields", path);
    if (auto found = in.find("x-kubernetes-preserve-unknown-fields");
        found != in.end() && *found == false) {
      errors_.push_back(Invalid(Child(path, "x-kubernetes-preserve-unknown-fields"), false,
                                "must be true or undefined"));
    }
    s.list_type = String(in, "x-kubernetes-list-type", path);
    s.list_map_keys = Strings(in, "x-kubernetes-list-map-keys", path);
    s.map_type = String(in, "x-kubernetes-map-type", path);
    if (s.int_or_string && s.preserve_unknown_fields) {
      errors_.push_back(Invalid(Child(path, "x-kubernetes-preserve-unknown-fields"), true,
                                "must be false if x-kubernetes-int-or-string is true"));
    }
    if (s.int_or_string && s.embedded_resource) {
      errors_.push_back(Invalid(Child(path, "x-kubernetes-embedded-resource"), true,
                                "must be false if x-kubernetes-int-or-string is true"));
    }
    if (minor_ >= 25 && in.contains("x-kubernetes-validations")) {
      ReadRules(in["x-kubernetes-validations"], Child(path, "x-kubernetes-validations"), s);
    }
  }

  void ReadRules(const Json& rules, const std::string& path, Structural& s) {
    if (!rules.is_array()) {
      errors_.push_back(Invalid(path, rules, "must be a list of rules"));
      return;
    }
    std::set<std::string> seen;
    for (size_t i = 0; i < rules.size(); ++i) {
      std::string at = Index(path, i);
      const Json& in = rules[i];
      if (!CheckObject(in, at)) continue;
      Rule rule;
      rule.rule = String(in, "rule", at);
      rule.message = String(in, "message", at);
      rule.message_expression = String(in, "messageExpression", at);
      rule.reason = String(in, "reason", at);
      rule.field_path = String(in, "fieldPath", at);
      rule.optional_old_self = Bool(in, "optionalOldSelf", at);
      auto blank = [](const std::string& t) {
        return t.find_first_not_of(" \t\r\n") == std::string::npos;
      };
      if (blank(rule.rule)) {
        errors_.push_back(Required(Child(at, "rule"), "rule is not specified"));
      } else if (!seen.insert(rule.rule).second) {  // x-kubernetes-list-map-keys: rule
        errors_.push_back(Duplicate(at, {{"rule", rule.rule}}));
      }
      if (in.contains("message") && blank(rule.message)) {
        if (!rule.message.empty()) {
          errors_.push_back(
              Invalid(Child(at, "message"), rule.message, "must be non-empty if specified"));
        }
      } else if (rule.message.find('\n') != std::string::npos) {
        errors_.push_back(
            Invalid(Child(at, "message"), rule.message, "must not contain line breaks"));
      } else if (rule.message.empty() && rule.rule.find('\n') != std::string::npos) {
        errors_.push_back(Required(Child(at, "message"),
                                   "message must be specified if rule contains line breaks"));
      }
      if (!rule.message_expression.empty() && blank(rule.message_expression)) {
        errors_.push_back(Required(Child(at, "messageExpression"),
                                   "messageExpression must be non-empty if specified"));
      }
      static const std::vector<std::string> kReasons = {
          "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"};
      if (!rule.reason.empty() &&
          std::find(kReasons.begin(), kReasons.end(), rule.reason) == kReasons.end()) {
        errors_.push_back(NotSupported(Child(at, "reason"), rule.reason, kReasons));
      }
      s.rules.push_back(std::move(rule));
    }
  }

  void ReadValidation(const Json& in, const std::string& path, Level level, bool skip_any_of,
                      bool skip_first_all_of, Structural& s) {
    s.format = String(in, "format", path);
    s.minimum = Number<double>(in, "minimum", path);
    s.maximum = Number<double>(in, "maximum", path);
    s.multiple_of = Number<double>(in, "multipleOf", path);
    s.exclusive_minimum = Bool(in, "exclusiveMinimum", path);
    s.exclusive_maximum = Bool(in, "exclusiveMaximum", path);
    s.min_length = Number<int64_t>(in, "minLength", path);
    s.max_length = Number<int64_t>(in, "maxLength", path);
    s.min_items = Number<int64_t>(in, "minItems", path);
    s.max_items = Number<int64_t>(in, "maxItems", path);
    s.min_properties = Number<int64_t>(in, "minProperties", path);
    s.max_properties = Number<int64_t>(in, "maxProperties", path);
    s.unique_items = Bool(in, "uniqueItems", path);
    if (s.unique_items) {
      errors_.push_back(Forbidden(
          Child(path, "uniqueItems"),
          "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"));
    }
    s.pattern = String(in, "pattern", path);
    if (!s.pattern.empty()) {
      RE2::Options options(RE2::Quiet);
      auto regex = std::make_shared<const RE2>(s.pattern, options);
      if (!regex->ok()) {
        errors_.push_back(
            Invalid(Child(path, "pattern"), s.pattern,
                    "must be a valid regular expression, but isn't: " + regex->error()));
      }
      s.regex = std::move(regex);
    }
    if (auto found = in.find("enum"); found != in.end()) {
      if (found->is_array()) {
        for (size_t i = 0; i < found->size(); ++i)
          s.enumeration.push_back((*found)[i]);
      } else {
        errors_.push_back(Invalid(Child(path, "enum"), *found, "must be a list"));
      }
    }
    s.required = Strings(in, "required", path);
    auto junctor = [&](const char* key, std::vector<Structural>& out, bool skip_any_in_first) {
      auto found = in.find(key);
      if (found == in.end() || found->is_null()) return;
      if (!found->is_array()) {
        errors_.push_back(Invalid(Child(path, key), *found, "must be a list of schemas"));
        return;
      }
      for (size_t i = 0; i < found->size(); ++i) {
        out.push_back(ParseNested((*found)[i], Index(Child(path, key), i), level,
                                  skip_any_in_first && i == 0));
      }
    };
    if (skip_any_of) {
      s.any_of = IntOrStringBranches();
    } else {
      junctor("anyOf", s.any_of, false);
    }
    junctor("allOf", s.all_of, skip_first_all_of);
    junctor("oneOf", s.one_of, false);
    if (in.contains("not")) {
      s.not_ =
          std::make_unique<Structural>(ParseNested(in["not"], Child(path, "not"), level, false));
    }
  }

  // What stands below a logical junctor may only validate values.
  Structural ParseNested(const Json& in, const std::string& path, Level level, bool skip_any_of) {
    Structural s;
    if (!CheckObject(in, path)) return s;
    CheckUnsupported(in, path);
    ReadValidation(in, path, level, skip_any_of, false, s);
    if (in.contains("items")) {
      s.items = std::make_unique<Structural>(
          ParseNested(in["items"], Child(path, "items"), level, false));
    }
    if (in.contains("properties") && CheckObject(in["properties"], Child(path, "properties"))) {
      for (const auto& [name, value] : in["properties"].items()) {
        std::string at = Key(Child(path, "properties"), name);
        if (name == "metadata") {
          errors_.push_back(Forbidden(at, "must not be specified in a nested context"));
        }
        s.properties.emplace(name, ParseNested(value, at, Level::kField, false));
      }
    }
    auto set = [&in](const char* key) {
      auto found = in.find(key);
      return found != in.end() && !found->is_null() && *found != false && *found != Json("") &&
             !(found->is_array() && found->empty());
    };
    static constexpr std::pair<const char*, const char*> kForbidden[] = {
        {"type", "must be empty to be structural"},
        {"additionalProperties", "must be undefined to be structural"},
        {"default", "must be undefined to be structural"},
        {"title", "must be empty to be structural"},
        {"description", "must be empty to be structural"},
        {"nullable", "must be false to be structural"},
        {"x-kubernetes-preserve-unknown-fields", "must be false to be structural"},
        {"x-kubernetes-embedded-resource", "must be false to be structural"},
        {"x-kubernetes-int-or-string", "must be false to be structural"},
        {"x-kubernetes-list-map-keys", "must be empty to be structural"},
        {"x-kubernetes-list-type", "must be undefined to be structural"},
        {"x-kubernetes-map-type", "must be undefined to be structural"},
        {"x-kubernetes-validations", "must be empty to be structural"},
    };
    for (const auto& [key, why] : kForbidden) {
      if (minor_ < 25 && std::string_view(key) == "x-kubernetes-validations") continue;
      if (set(key)) errors_.push_back(Forbidden(Child(path, key), why));
    }
    return s;
  }

  static std::vector<Structural> IntOrStringBranches() {
    std::vector<Structural> branches(2);
    branches[0].type = "integer";
    branches[1].type = "string";
    return branches;
  }

  void ReadAdditionalProperties(const Json& in, const std::string& path, Level level,
                                Structural& s) {
    auto found = in.find("additionalProperties");
    if (found == in.end() || found->is_null()) return;
    std::string at = Child(path, "additionalProperties");
    if (found->is_boolean()) {
      s.additional_properties_allowed = found->get<bool>();
      if (!s.additional_properties_allowed) {
        // apiextensions: pruning makes `false` meaningless, and it is refused.
        errors_.push_back(Forbidden(at, "additionalProperties cannot be set to false"));
      }
    } else {
      s.additional_properties_allowed = true;
      s.additional_properties =
          std::make_unique<Structural>(Parse(*found, at, Level::kField, false));
    }
    if (!s.properties.empty()) {
      errors_.push_back(Forbidden(at, "additionalProperties and properties are mutual exclusive"));
    }
    if (level == Level::kRoot) errors_.push_back(Forbidden(at, "must not be used at the root"));
    if (s.embedded_resource) {
      errors_.push_back(Forbidden(at, "must not be used if x-kubernetes-embedded-resource is set"));
    }
  }

  void CheckMeta(const std::string& name, const Json& value, const std::string& at, Level level) {
    if (!value.is_object()) return;
    Json type = value.value("type", Json(""));
    if ((name == "kind" || name == "apiVersion") && type != "string") {
      errors_.push_back(Invalid(Child(at, "type"), type, "must be string"));
    }
    if (name != "metadata") return;
    if (type != "object") errors_.push_back(Invalid(Child(at, "type"), type, "must be object"));
    if (level != Level::kRoot) return;
    bool only_names = true;
    for (const auto& [key, unused] : value.items()) {
      only_names = only_names && (key == "type" || key == "properties" || key == "description");
    }
    if (value.contains("properties") && value["properties"].is_object()) {
      for (const auto& [key, unused] : value["properties"].items()) {
        only_names = only_names && (key == "name" || key == "generateName");
      }
    }
    if (!only_names) {
      errors_.push_back(Forbidden(at,
                                  "must not specify anything other than name and generateName, but "
                                  "metadata is implicitly specified"));
    }
  }

  void CheckType(const std::string& path, Level level, const Structural& s) {
    std::string at = Child(path, "type");
    if (s.embedded_resource && s.type != "object") {
      constexpr const char* kWhy = "must be object if x-kubernetes-embedded-resource is true";
      errors_.push_back(s.type.empty() ? Required(at, kWhy) : Invalid(at, s.type, kWhy));
    } else if (s.type.empty() && !s.int_or_string && !s.preserve_unknown_fields) {
      errors_.push_back(Required(at, level == Level::kRoot ? "must not be empty at the root"
                                     : level == Level::kItem
                                         ? "must not be empty for specified array items"
                                         : "must not be empty for specified object fields"));
    }
    if (s.int_or_string && !s.type.empty()) {
      errors_.push_back(Invalid(at, s.type, "must be empty if x-kubernetes-int-or-string is true"));
    }
    if (level == Level::kRoot && !s.type.empty() && s.type != "object") {
      errors_.push_back(Invalid(at, s.type, "must be object at the root"));
    }
    if (level == Level::kRoot && s.nullable) {
      errors_.push_back(Forbidden(Child(path, "nullable"), "nullable cannot be true at the root"));
    }
    if (s.embedded_resource && !s.preserve_unknown_fields && s.properties.empty()) {
      errors_.push_back(Required(Child(path, "properties"),
                                 "must not be empty if x-kubernetes-embedded-resource is true "
                                 "without x-kubernetes-preserve-unknown-fields"));
    }
  }

  void CheckListAndMap(const Json& in, const std::string& path, const Structural& s) {
    std::string type = Child(path, "type");
    if (!s.map_type.empty()) {
      constexpr const char* kWhy = "must be object if x-kubernetes-map-type is specified";
      if (s.type != "object") {
        errors_.push_back(s.type.empty() ? Required(type, kWhy) : Invalid(type, s.type, kWhy));
      }
      if (s.map_type != "atomic" && s.map_type != "granular") {
        errors_.push_back(
            NotSupported(Child(path, "x-kubernetes-map-type"), s.map_type, {"atomic", "granular"}));
      }
    }
    std::string list_type = Child(path, "x-kubernetes-list-type");
    if (!s.list_type.empty()) {
      constexpr const char* kWhy = "must be array if x-kubernetes-list-type is specified";
      if (s.type != "array") {
        errors_.push_back(s.type.empty() ? Required(type, kWhy) : Invalid(type, s.type, kWhy));
      }
      if (s.list_type != "atomic" && s.list_type != "set" && s.list_type != "map") {
        errors_.push_back(NotSupported(list_type, s.list_type, {"atomic", "map", "set"}));
      }
    }
    if (s.list_type == "set" && s.items) {
      bool atomic_items = (s.items->type != "array" || s.items->list_type == "atomic") &&
                          (s.items->type != "object" || s.items->map_type == "atomic");
      if (!atomic_items) {
        bool list = s.items->type == "array";
        errors_.push_back(Invalid(
            Child(Child(path, "items"), list ? "x-kubernetes-list-type" : "x-kubernetes-map-type"),
            list ? s.items->list_type : s.items->map_type,
            "must be atomic as item of a list with x-kubernetes-list-type=set"));
      }
    }
    if ((s.list_type == "set" || s.list_type == "map") && s.items && s.items->nullable) {
      errors_.push_back(
          Forbidden(Child(Child(path, "items"), "nullable"),
                    "cannot be nullable when x-kubernetes-list-type is " + s.list_type));
    }
    if (!s.list_map_keys.empty() && s.list_type != "map") {
      constexpr const char* kWhy = "must be map if x-kubernetes-list-map-keys is non-empty";
      errors_.push_back(s.list_type.empty() ? Required(list_type, kWhy)
                                            : Invalid(list_type, s.list_type, kWhy));
    }
    if (s.list_type == "map") CheckListMap(in, path, s);
  }

  void CheckListMap(const Json& in, const std::string& path, const Structural& s) {
    std::string keys = Child(path, "x-kubernetes-list-map-keys");
    if (s.list_map_keys.empty()) {
      errors_.push_back(Required(keys, "must not be empty if x-kubernetes-list-type is map"));
    }
    if (!s.items) {
      errors_.push_back(
          Required(Child(path, "items"), "must have a schema if x-kubernetes-list-type is map"));
      return;
    }
    if (s.items->type != "object") {
      errors_.push_back(Invalid(Child(Child(path, "items"), "type"), s.items->type,
                                "must be object if parent array's x-kubernetes-list-type is map"));
    }
    std::set<std::string> seen;
    for (const auto& key : s.list_map_keys) {
      auto found = s.items->properties.find(key);
      if (found == s.items->properties.end()) {
        errors_.push_back(Invalid(keys, in["x-kubernetes-list-map-keys"],
                                  "entries must all be names of item properties"));
        continue;
      }
      if (!seen.insert(key).second) {
        errors_.push_back(
            Invalid(keys, in["x-kubernetes-list-map-keys"], "must not contain duplicate entries"));
      }
      std::string at = Key(Child(Child(path, "items"), "properties"), key);
      const Structural& property = found->second;
      if (property.type == "array" || property.type == "object") {
        errors_.push_back(
            Invalid(Child(at, "type"), property.type,
                    "must be a scalar type if parent array's x-kubernetes-list-type is map"));
      }
      const auto& required = s.items->required;
      if (!property.default_value &&
          std::find(required.begin(), required.end(), key) == required.end()) {
        errors_.push_back(Required(Child(at, "default"),
                                   "this property is in x-kubernetes-list-map-keys, so it must "
                                   "have a default or be a required property"));
      }
      if (property.nullable) {
        errors_.push_back(
            Forbidden(Child(at, "nullable"),
                      "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"));
      }
    }
  }

  int minor_;
  FieldErrors& errors_;
};

std::string ReplaceLineBreaks(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

const Structural* Structural::Field(const std::string& name) const {
  auto found = properties.find(name);
  if (found != properties.end()) return &found->second;
  return additional_properties.get();
}

Structural ParseSchema(const Json& schema, const std::string& path, int kubernetes_minor,
                       FieldErrors& errors) {
  return Parser(kubernetes_minor, errors).Parse(schema, path, Level::kRoot, false);
}

namespace {

// `transition`: false below a list that cannot be correlated (atomic or set), where oldSelf has no
// meaning. `root`: apiVersion, kind and metadata can be used there.
void Compile(Structural& s, const std::string& path, int minor, bool correlatable, bool root,
             FieldErrors& errors) {
  std::string rules_path = Child(path, "x-kubernetes-validations");
  for (size_t i = 0; i < s.rules.size(); ++i) {
    Rule& rule = s.rules[i];
    if (rule.rule.find_first_not_of(" \t\r\n") == std::string::npos) continue;  // already reported
    std::string at = Index(rules_path, i);
    cel::CompileOptions options{.self = &s,
                                .resource_root = root || s.embedded_resource,
                                .kubernetes_minor = minor,
                                .optional_old_self = rule.optional_old_self};
    Json shown = {{"rule", rule.rule}};
    if (!rule.message.empty()) shown["message"] = rule.message;
    try {
      options.result = cel::ResultType::kBool;
      rule.program = cel::Program::Compile(rule.rule, options);
      if (rule.program->uses_old_self() && !correlatable) {
        errors.push_back(Invalid(Child(at, "rule"), rule.rule,
                                 "oldSelf cannot be used on the uncorrelatable portion of the "
                                 "schema within " +
                                     path));
      }
      if (rule.optional_old_self && !rule.program->uses_old_self()) {
        errors.push_back(Invalid(Child(at, "optionalOldSelf"), true,
                                 "may not be set if oldSelf is not used in rule"));
      }
    } catch (const cel::CompileError& error) {
      errors.push_back(Invalid(Child(at, "rule"), shown, error.what()));
    }
    if (rule.message_expression.empty()) continue;
    try {
      options.result = cel::ResultType::kString;
      rule.message_program = cel::Program::Compile(rule.message_expression, options);
    } catch (const cel::CompileError& error) {
      errors.push_back(Invalid(Child(at, "messageExpression"), shown,
                               "messageExpression " + std::string(error.what())));
    }
  }
  for (Rule& rule : s.rules) {
    if (rule.message.empty()) rule.message = "failed rule: " + ReplaceLineBreaks(rule.rule);
  }
  if (s.items) {
    Compile(*s.items, Child(path, "items"), minor, correlatable && s.list_type == "map", false,
            errors);
  }
  for (auto& [name, property] : s.properties) {
    Compile(property, Key(Child(path, "properties"), name), minor, correlatable, false, errors);
  }
  if (s.additional_properties) {
    Compile(*s.additional_properties, Child(path, "additionalProperties"), minor, correlatable,
            false, errors);
  }
}

}  // namespace

void CompileRules(Structural& root, const std::string& path, int kubernetes_minor,
                  FieldErrors& errors) {
  Compile(root, path, kubernetes_minor, true, true, errors);
}

}  // namespace pointsman::e2e::schema
