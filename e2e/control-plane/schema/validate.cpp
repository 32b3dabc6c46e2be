#include "e2e/control-plane/schema/validate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <re2/re2.h>
#include <spdlog/spdlog.h>

#include "e2e/control-plane/schema/cel/program.h"
#include "e2e/control-plane/schema/formats.h"

namespace pointsman::e2e::schema {
namespace {

bool IsInteger(const Json& value) {
  if (value.is_number_integer()) return true;
  return value.is_number_float() && std::nearbyint(value.get<double>()) == value.get<double>();
}

std::string TypeName(const Json& value) {
  if (value.is_object()) return "object";
  if (value.is_array()) return "array";
  if (value.is_string()) return "string";
  if (value.is_boolean()) return "boolean";
  if (value.is_number()) return IsInteger(value) ? "integer" : "number";
  return "null";
}

bool HasType(const Json& value, const std::string& type) {
  if (type == "integer") return value.is_number() && IsInteger(value);
  if (type == "number") return value.is_number();
  return TypeName(value) == type;
}

std::string Shown(double number) {
  return Json(number).dump();
}

std::string ShownBound(double number) {
  if (std::nearbyint(number) == number && std::fabs(number) < 1e15) {
    return std::to_string(static_cast<int64_t>(number));
  }
  return Shown(number);
}

int64_t RuneCount(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

class Validator {
 public:
  explicit Validator(FieldErrors& errors) : errors_(errors) {}

  void Check(const Json& value, const Structural& s, const std::string& path) {
    if (value.is_null() && s.nullable) return;
    if (!CheckType(value, s, path)) return;
    if (s.embedded_resource && value.is_object()) CheckEmbedded(value, path);
    CheckJunctors(value, s, path);
    if (value.is_string()) CheckString(value, s, path);
    if (value.is_number()) CheckNumber(value, s, path);
    if (value.is_array()) CheckArray(value, s, path);
    if (!s.enumeration.empty() &&
        std::find(s.enumeration.begin(), s.enumeration.end(), value) == s.enumeration.end()) {
      std::vector<std::string> supported;
      for (const auto& allowed : s.enumeration) {
        supported.push_back(allowed.is_string() ? allowed.get<std::string>() : allowed.dump());
      }
      errors_.push_back(NotSupported(path, value, supported));
    }
    if (value.is_object()) CheckObject(value, s, path);
  }

 private:
  static std::string In(const std::string& path, const std::string& what) {
    return path + " in body " + what;
  }

  bool CheckType(const Json& value, const Structural& s, const std::string& path) {
    std::string wanted = s.type;
    bool ok = wanted.empty() || HasType(value, wanted);
    if (s.int_or_string) {
      ok = value.is_string() || (value.is_number() && IsInteger(value));
      wanted = "integer,string";
    } else if (wanted.empty() && value.is_null()) {
      return true;
    }
    if (ok) return true;
    errors_.push_back(
        TypeInvalid(path, value.is_structured() ? Json(TypeName(value)) : value,
                    In(path, "must be of type " + wanted + ": " + Json(TypeName(value)).dump())));
    return false;
  }

  void CheckEmbedded(const Json& value, const std::string& path) {
    for (const char* key : {"apiVersion", "kind"}) {
      auto found = value.find(key);
      if (found == value.end() || *found == Json("")) {
        errors_.push_back(Required(Child(path, key), "must not be empty"));
      } else if (!found->is_string()) {
        errors_.push_back(TypeInvalid(Child(path, key), *found, "must be a string"));
      }
    }
    if (value.contains("metadata") && !value["metadata"].is_object()) {
      errors_.push_back(TypeInvalid(Child(path, "metadata"), value["metadata"], "must be object"));
    }
  }

  static bool Holds(const Json& value, const Structural& s, const std::string& path) {
    FieldErrors errors;
    Validator(errors).Check(value, s, path);
    return errors.empty();
  }

  void Composite(const std::string& text) { errors_.push_back(Invalid("<nil>", "", text)); }

  void CheckJunctors(const Json& value, const Structural& s, const std::string& path) {
    std::string subject = "\"" + path + "\" must ";
    if (!s.any_of.empty()) {
      bool any = std::any_of(s.any_of.begin(), s.any_of.end(),
                             [&](const Structural& branch) { return Holds(value, branch, path); });
      if (!any) {
        Composite(subject + "validate at least one schema (anyOf)");
        // The server adds the errors of the best match, so that the user sees what to change.
        Check(value, s.any_of.front(), path);
      }
    }
    if (!s.one_of.empty()) {
      auto valid = std::count_if(s.one_of.begin(), s.one_of.end(), [&](const Structural& branch) {
        return Holds(value, branch, path);
      });
      if (valid != 1) {
        Composite(subject + "validate one and only one schema (oneOf). " +
                  (valid == 0 ? std::string("Found none valid")
                              : "Found " + std::to_string(valid) + " valid alternatives"));
        if (valid == 0) Check(value, s.one_of.front(), path);
      }
    }
    for (const auto& branch : s.all_of) {
      size_t before = errors_.size();
      Check(value, branch, path);
      if (errors_.size() != before) Composite(subject + "validate all the schemas (allOf)");
    }
    if (s.not_ && Holds(value, *s.not_, path)) {
      Composite(subject + "not validate the schema (not)");
    }
  }

  void CheckString(const Json& value, const Structural& s, const std::string& path) {
    const auto& text = value.get_ref<const std::string&>();
    if (s.max_length && RuneCount(text) > *s.max_length) {
      errors_.push_back(TooLong(path, *s.max_length));
    }
    if (s.min_length && RuneCount(text) < *s.min_length) {
      errors_.push_back(
          Invalid(path, value,
                  In(path, "should be at least " + std::to_string(*s.min_length) + " chars long")));
    }
    if (s.regex && !RE2::PartialMatch(text, *s.regex)) {
      errors_.push_back(Invalid(path, value, In(path, "should match '" + s.pattern + "'")));
    }
    if (!s.format.empty() && !HasFormat(s.format, text)) {
      errors_.push_back(
          TypeInvalid(path, value, In(path, "must be of type " + s.format + ": " + value.dump())));
    }
  }

  void CheckNumber(const Json& value, const Structural& s, const std::string& path) {
    auto number = value.get<double>();
    auto invalid = [&](const std::string& what) {
      errors_.push_back(Invalid(path, value, In(path, what)));
    };
    if (s.format == "int32" && IsInteger(value) &&
        (number < -2147483648.0 || number > 2147483647.0)) {
      errors_.push_back(Invalid(
          path, value, "Checked value must be of type integer with format int32 in " + path));
    }
    if (s.multiple_of && *s.multiple_of > 0) {
      double ratio = number / *s.multiple_of;
      if (std::fabs(ratio - std::nearbyint(ratio)) > 1e-9) {
        invalid("should be a multiple of " + ShownBound(*s.multiple_of));
      }
    }
    if (s.maximum && (s.exclusive_maximum ? number >= *s.maximum : number > *s.maximum)) {
      invalid((s.exclusive_maximum ? "should be less than " : "should be less than or equal to ") +
              ShownBound(*s.maximum));
    }
    if (s.minimum && (s.exclusive_minimum ? number <= *s.minimum : number < *s.minimum)) {
      invalid((s.exclusive_minimum ? "should be greater than "
                                   : "should be greater than or equal to ") +
              ShownBound(*s.minimum));
    }
  }

  void CheckArray(const Json& value, const Structural& s, const std::string& path) {
    auto count = static_cast<int64_t>(value.size());
    if (s.items) {
      for (size_t i = 0; i < value.size(); ++i)
        Check(value[i], *s.items, Index(path, i));
    }
    if (s.min_items && count < *s.min_items) {
      errors_.push_back(
          Invalid(path, count,
                  In(path, "should have at least " + std::to_string(*s.min_items) + " items")));
    }
    if (s.max_items && count > *s.max_items) {
      errors_.push_back(TooMany(path, count, *s.max_items));
    }
    std::set<Json> seen;
    for (size_t i = 0; i < value.size(); ++i) {
      Json key;
      if (s.list_type == "set") {
        key = value[i];
      } else if (s.list_type == "map" && value[i].is_object()) {
        key = Json::object();
        for (const auto& name : s.list_map_keys) {
          if (value[i].contains(name)) key[name] = value[i][name];
        }
      } else {
        continue;
      }
      if (!seen.insert(key).second) errors_.push_back(Duplicate(Index(path, i), key));
    }
  }

  void CheckObject(const Json& value, const Structural& s, const std::string& path) {
    auto count = static_cast<int64_t>(value.size());
    if (s.min_properties && count < *s.min_properties) {
      errors_.push_back(Invalid(
          path, count,
          In(path, "should have at least " + std::to_string(*s.min_properties) + " properties")));
    }
    if (s.max_properties && count > *s.max_properties) {
      errors_.push_back(TooMany(path, count, *s.max_properties));
    }
    for (const auto& name : s.required) {
      if (!value.contains(name)) errors_.push_back(Required(Child(path, name)));
    }
    for (const auto& [name, field] : value.items()) {
      if (const Structural* schema = s.Field(name)) Check(field, *schema, Child(path, name));
    }
  }

  FieldErrors& errors_;
};

class RuleChecker {
 public:
  explicit RuleChecker(FieldErrors& errors) : errors_(errors) {}

  void Check(const Json& value, const Json* old, const Structural& s, const std::string& path) {
    if (value.is_null() && s.nullable) return;  // a null has no fields to hold rules against
    for (const auto& rule : s.rules) {
      if (rule.program && !Run(rule, value, old, s, path)) return;
    }
    if (value.is_object()) {
      for (const auto& [name, field] : value.items()) {
        const Structural* schema = s.Field(name);
        if (!schema) continue;
        const Json* before = nullptr;
        if (old && old->is_object()) {
          if (auto found = old->find(name); found != old->end()) before = &*found;
        }
        Check(field, before, *schema,
              s.properties.contains(name) ? Child(path, name) : Key(path, name));
      }
    } else if (value.is_array() && s.items) {
      for (size_t i = 0; i < value.size(); ++i) {
        Check(value[i], Correlate(value[i], old, s), *s.items, Index(path, i));
      }
    }
  }

 private:
  static const Json* Correlate(const Json& item, const Json* old, const Structural& s) {
    if (!old || !old->is_array() || s.list_type != "map" || !item.is_object()) return nullptr;
    for (const auto& candidate : *old) {
      bool same = candidate.is_object();
      for (const auto& key : s.list_map_keys) {
        same = same && candidate.value(key, Json()) == item.value(key, Json());
      }
      if (same) return &candidate;
    }
    return nullptr;
  }

  // False when the cost of all rules is spent: nothing more is evaluated then.
  bool Run(const Rule& rule, const Json& value, const Json* old, const Structural& s,
           const std::string& path) {
    if (rule.program->uses_old_self() && !old && !rule.optional_old_self) return true;
    std::string type = s.int_or_string ? "" : s.type;
    try {
      if (rule.program->EvaluateBool(value, old, cost_)) return true;
      std::string message = rule.message;
      if (rule.message_program) {
        try {
          std::string computed = rule.message_program->EvaluateString(value, old, cost_);
          bool usable = computed.find_first_not_of(" \t\r\n") != std::string::npos &&
                        computed.find('\n') == std::string::npos;
          if (usable) message = computed;
        } catch (const cel::EvalError& error) {
          spdlog::debug("messageExpression {}: {}; the rule's message is used",
                        rule.message_expression, error.what());
        }
      }
      errors_.push_back(WithReason(rule, At(rule, path), type, message));
    } catch (const cel::CostExceeded& error) {
      errors_.push_back(Invalid(path.empty() ? "<nil>" : path, type, error.what()));
      return false;
    } catch (const cel::EvalError& error) {
      errors_.push_back(Invalid(path.empty() ? "<nil>" : path, type,
                                std::string(error.what()) + " evaluating rule: " + rule.message));
    }
    return true;
  }

  static std::string At(const Rule& rule, const std::string& path) {
    std::string at = path;
    if (!rule.field_path.empty()) {
      std::string relative = rule.field_path;
      if (relative.starts_with('.')) relative.erase(0, 1);
      at = relative.starts_with('[') ? path + relative : Child(path, relative);
    }
    return at.empty() ? "<nil>" : at;
  }

  static FieldError WithReason(const Rule& rule, std::string path, const std::string& type,
                               const std::string& message) {
    if (rule.reason == "FieldValueForbidden") return Forbidden(std::move(path), message);
    if (rule.reason == "FieldValueRequired") return Required(std::move(path), message);
    if (rule.reason == "FieldValueDuplicate") return Duplicate(std::move(path), type);
    return Invalid(std::move(path), type, message);
  }

  FieldErrors& errors_;
  // apiextensions: the limit for all rules of one object together.
  cel::Cost cost_{.left = 10'000'000};
};

}  // namespace

FieldErrors Validate(const Json& object, const Structural& schema, const std::string& path) {
  FieldErrors errors;
  Validator(errors).Check(object, schema, path);
  return errors;
}

FieldErrors CheckRules(const Json& object, const Json* old, const Structural& schema) {
  FieldErrors errors;
  RuleChecker(errors).Check(object, old, schema, "");
  return errors;
}

}  // namespace pointsman::e2e::schema
