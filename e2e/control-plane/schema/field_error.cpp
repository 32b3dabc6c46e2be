#include "e2e/control-plane/schema/field_error.h"

#include <cstdint>
#include <set>
#include <string_view>
#include <utility>

namespace pointsman::e2e::schema {

std::string FieldError::Body() const {
  std::string text;
  switch (type) {
    case ErrorType::kRequired:
      text = "Required value";
      break;
    case ErrorType::kForbidden:
      text = "Forbidden";
      break;
    case ErrorType::kTooLong:
      text = "Too long";
      break;
    case ErrorType::kInvalid:
    case ErrorType::kTypeInvalid:
      text = "Invalid value: ";
      break;
    case ErrorType::kNotSupported:
      text = "Unsupported value: ";
      break;
    case ErrorType::kDuplicate:
      text = "Duplicate value: ";
      break;
    case ErrorType::kTooMany:
      text = "Too many: ";
      break;
  }
  if (text.ends_with(": ")) {
    // The server prints null between quotes and everything else as JSON.
    text += bad_value.is_null() ? "\"null\""
                                : bad_value.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  if (!detail.empty()) text += ": " + detail;
  return text;
}

std::string_view FieldError::Reason() const {
  switch (type) {
    case ErrorType::kRequired:
      return "FieldValueRequired";
    case ErrorType::kTypeInvalid:
      return "FieldValueTypeInvalid";
    case ErrorType::kNotSupported:
      return "FieldValueNotSupported";
    case ErrorType::kForbidden:
      return "FieldValueForbidden";
    case ErrorType::kDuplicate:
      return "FieldValueDuplicate";
    case ErrorType::kTooLong:
      return "FieldValueTooLong";
    case ErrorType::kTooMany:
      return "FieldValueTooMany";
    case ErrorType::kInvalid:
      break;
  }
  return "FieldValueInvalid";
}

FieldError Required(std::string field, std::string detail) {
  return {ErrorType::kRequired, std::move(field), std::move(detail), nullptr};
}

FieldError Invalid(std::string field, Json value, std::string detail) {
  return {ErrorType::kInvalid, std::move(field), std::move(detail), std::move(value)};
}

FieldError TypeInvalid(std::string field, Json value, std::string detail) {
  return {ErrorType::kTypeInvalid, std::move(field), std::move(detail), std::move(value)};
}

FieldError Forbidden(std::string field, std::string detail) {
  return {ErrorType::kForbidden, std::move(field), std::move(detail), nullptr};
}

FieldError Duplicate(std::string field, Json value) {
  return {ErrorType::kDuplicate, std::move(field), "", std::move(value)};
}

FieldError NotSupported(std::string field, Json value, const std::vector<std::string>& supported) {
  std::string detail;
  for (const auto& s : supported) {
    detail += detail.empty() ? "supported values: " : ", ";
    detail += Json(s).dump();
  }
  return {ErrorType::kNotSupported, std::move(field), std::move(detail), std::move(value)};
}

FieldError TooLong(std::string field, int64_t max_bytes) {
  return {ErrorType::kTooLong, std::move(field),
          "may not be more than " + std::to_string(max_bytes) + " bytes", nullptr};
}

FieldError TooMany(std::string field, int64_t actual, int64_t max) {
  return {ErrorType::kTooMany, std::move(field),
          "must have at most " + std::to_string(max) + " items", actual};
}

std::string Aggregate(const FieldErrors& errors) {
  if (errors.size() == 1) return errors.front().Text();
  std::string text = "[";
  std::set<std::string> seen;  // the server names each text once
  for (const auto& error : errors) {
    std::string one = error.Text();
    if (!seen.insert(one).second) continue;
    if (text.size() > 1) text += ", ";
    text += one;
  }
  return text + "]";
}

std::string Child(std::string_view path, std::string_view name) {
  std::string out(path);
  if (!out.empty()) out += '.';
  return out.append(name);
}

std::string Index(std::string_view path, size_t index) {
  return std::string(path) + "[" + std::to_string(index) + "]";
}

std::string Key(std::string_view path, std::string_view key) {
  return std::string(path).append("[").append(key).append("]");
}

}  // namespace pointsman::e2e::schema
