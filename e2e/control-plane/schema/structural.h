// A CRD's openAPIV3Schema as apiextensions.k8s.io/v1 requires it: structural (KEP-1693).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "e2e/control-plane/schema/field_error.h"

namespace re2 {
class RE2;
}

namespace pointsman::e2e::schema {

namespace cel {
class Program;
}

// One x-kubernetes-validations rule.
struct Rule {
  std::string rule;
  std::string message;
  std::string message_expression;
  std::string reason;      // FieldValueInvalid when empty
  std::string field_path;  // ".spec.x", relative to the schema the rule stands in; may be empty
  bool optional_old_self = false;
  std::shared_ptr<const cel::Program> program;
  std::shared_ptr<const cel::Program> message_program;
};

// One node of the schema tree, with its regular expression compiled. Immutable after ParseSchema
// (and CompileRules); may then be shared by threads.
struct Structural {
  std::string type;  // object, array, string, integer, number, boolean; empty when anything goes
  std::string format;
  bool nullable = false;
  std::optional<Json> default_value;

  bool int_or_string = false;
  bool preserve_unknown_fields = false;
  bool embedded_resource = false;
  std::string list_type;  // atomic, set, map
  std::vector<std::string> list_map_keys;
  std::string map_type;  // atomic, granular
  std::vector<Rule> rules;

  std::optional<double> minimum, maximum, multiple_of;
  bool exclusive_minimum = false, exclusive_maximum = false;
  std::optional<int64_t> min_length, max_length, min_items, max_items, min_properties,
      max_properties;
  bool unique_items = false;
  std::string pattern;
  std::shared_ptr<const re2::RE2> regex;
  std::vector<Json> enumeration;
  std::vector<std::string> required;

  std::unique_ptr<Structural> items;
  std::map<std::string, Structural> properties;
  std::unique_ptr<Structural> additional_properties;
  bool additional_properties_allowed = false;  // additionalProperties: true (or a schema)
  std::vector<Structural> all_of, any_of, one_of;
  std::unique_ptr<Structural> not_;

  // The property's schema, or that of additionalProperties, or null.
  const Structural* Field(const std::string& name) const;
};

// Reads a schema and checks that it is structural. What is wrong is added to `errors`, each with
// its path below `path`; the tree is then not to be used. `kubernetes_minor`: the version emulated:
// x-kubernetes-validations is dropped before 1.25, as those versions drop it.
Structural ParseSchema(const Json& schema, const std::string& path, int kubernetes_minor,
                       FieldErrors& errors);

// Compiles every rule of the tree; what does not compile is an error at its path.
// `path` is that of `root` in the CRD.
void CompileRules(Structural& root, const std::string& path, int kubernetes_minor,
                  FieldErrors& errors);

}  // namespace pointsman::e2e::schema
