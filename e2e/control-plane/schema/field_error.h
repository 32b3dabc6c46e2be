// Errors that name a field, in the words and with the reasons of a Kubernetes API server
// (k8s.io/apimachinery/pkg/util/validation/field).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace pointsman::e2e::schema {

using Json = nlohmann::json;

enum class ErrorType {
  kRequired,
  kInvalid,
  kTypeInvalid,
  kNotSupported,
  kForbidden,
  kDuplicate,
  kTooLong,
  kTooMany,
};

struct FieldError {
  ErrorType type = ErrorType::kInvalid;
  std::string field;   // "spec.ports[0].port"; "<nil>" where the server names no field
  std::string detail;  // what the text ends with; may be empty
  Json bad_value;      // shown by kInvalid, kTypeInvalid, kNotSupported, kDuplicate, kTooMany

  // "Invalid value: -1: should be …": what a Status cause carries as its message.
  std::string Body() const;
  // "spec.x: Invalid value: -1: …"
  std::string Text() const { return field + ": " + Body(); }
  // "FieldValueInvalid", …: what a Status cause carries as its reason.
  std::string_view Reason() const;
};

using FieldErrors = std::vector<FieldError>;

FieldError Required(std::string field, std::string detail = "");
FieldError Invalid(std::string field, Json value, std::string detail);
FieldError TypeInvalid(std::string field, Json value, std::string detail);
FieldError Forbidden(std::string field, std::string detail);
FieldError Duplicate(std::string field, Json value);
FieldError NotSupported(std::string field, Json value, const std::vector<std::string>& supported);
FieldError TooLong(std::string field, int64_t max_bytes);
FieldError TooMany(std::string field, int64_t actual, int64_t max);

// What follows `<kind> "<name>" is invalid: ` in the Status message: the one text, or all of them
// in brackets.
std::string Aggregate(const FieldErrors& errors);

// A field path "a.b", "a[0]", "a[key]".
std::string Child(std::string_view path, std::string_view name);
std::string Index(std::string_view path, size_t index);
std::string Key(std::string_view path, std::string_view key);

}  // namespace pointsman::e2e::schema
