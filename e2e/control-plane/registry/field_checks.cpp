#include "e2e/control-plane/registry/field_checks.h"

#include <algorithm>

namespace pointsman::e2e {
namespace {

bool isAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool isLowerAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// Letters, digits, '-', '_' and '.'.
bool isNameCharacter(char c) {
  return isAlnum(c) || c == '-' || c == '_' || c == '.';
}

}  // namespace

FieldError required(const std::string& field, const std::string& why) {
  return {field, "FieldValueRequired", why.empty() ? "Required value" : "Required value: " + why};
}

FieldError invalidValue(const std::string& field, const Json& value, const std::string& why) {
  return {field, "FieldValueInvalid", "Invalid value: " + value.dump() + ": " + why};
}

FieldError notSupported(const std::string& field, const std::string& value,
                        const std::vector<std::string>& allowed) {
  std::string list;
  for (const std::string& a : allowed)
    list += (list.empty() ? "\"" : ", \"") + a + "\"";
  return {field, "FieldValueNotSupported",
          "Unsupported value: " + Json(value).dump() + ": supported values: " + list};
}

FieldError duplicate(const std::string& field, const Json& value) {
  return {field, "FieldValueDuplicate", "Duplicate value: " + value.dump()};
}

FieldError forbiddenValue(const std::string& field, const std::string& why) {
  return {field, "FieldValueForbidden", "Forbidden: " + why};
}

FieldError tooMany(const std::string& field, std::size_t count, std::size_t most) {
  return {field, "FieldValueTooMany",
          "Too many: " + std::to_string(count) + ": must have at most " + std::to_string(most) +
              " items"};
}

bool oneOf(const std::string& value, const std::vector<std::string>& allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

bool isEmptyString(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>().empty();
}

void checkPort(const Json& value, const std::string& path, std::vector<FieldError>& errors) {
  if (!value.is_number_integer() || value < 1 || value > 65535) {
    errors.push_back(invalidValue(path, value, "must be between 1 and 65535, inclusive"));
  }
}

std::string checkDns1123Label(std::string_view name) {
  static const std::string text =
      "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
      "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
      "used "
      "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
  if (name.size() > 63) return "must be no more than 63 characters";
  if (name.empty() || !isLowerAlnum(name.front()) || !isLowerAlnum(name.back()) ||
      !std::all_of(name.begin(), name.end(), [](char c) { return isLowerAlnum(c) || c == '-'; })) {
    return text;
  }
  return {};
}

std::string checkDns1123Subdomain(std::string_view name) {
  static const std::string text =
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
      "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
      "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
  if (name.size() > 253) return "must be no more than 253 characters";
  if (name.empty()) return text;
  while (true) {
    const auto dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || !isLowerAlnum(label.front()) || !isLowerAlnum(label.back()) ||
        !std::all_of(label.begin(), label.end(),
                     [](char c) { return isLowerAlnum(c) || c == '-'; })) {
      return text;
    }
    if (dot == std::string_view::npos) return {};
    name.remove_prefix(dot + 1);
  }
}

std::string checkDns1035Label(std::string_view name) {
  if (name.size() > 63) return "must be no more than 63 characters";
  if (name.empty() || name.front() < 'a' || name.front() > 'z' || !isLowerAlnum(name.back()) ||
      !std::all_of(name.begin(), name.end(), [](char c) { return isLowerAlnum(c) || c == '-'; })) {
    return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with "
           "an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
           "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
  }
  return {};
}

std::string checkQualifiedName(std::string_view name) {
  const auto slash = name.find('/');
  std::string_view part = name;
  if (slash != std::string_view::npos) {
    const auto why = checkDns1123Subdomain(name.substr(0, slash));
    if (!why.empty()) return "prefix part " + why;
    part = name.substr(slash + 1);
  }
  if (part.empty()) return "name part must be non-empty";
  if (part.size() > 63) return "name part must be no more than 63 characters";
  if (!isAlnum(part.front()) || !isAlnum(part.back()) ||
      !std::all_of(part.begin(), part.end(), isNameCharacter)) {
    return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and "
           "end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex "
           "used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
  }
  return {};
}

void checkLabels(const Json& labels, const std::string& path, std::vector<FieldError>& errors) {
  if (!labels.is_object()) return;
  for (const auto& [key, value] : labels.items()) {
    if (const auto why = checkQualifiedName(key); !why.empty()) {
      errors.push_back(invalidValue(path, key, why));
    }
    if (!value.is_string()) {
      errors.push_back(invalidValue(path, value, "must be a string"));
      continue;
    }
    const std::string text = value;
    if (text.empty()) continue;
    if (text.size() > 63) {
      errors.push_back(invalidValue(path, text, "must be no more than 63 characters"));
    } else if (!isAlnum(text.front()) || !isAlnum(text.back()) ||
               !std::all_of(text.begin(), text.end(), isNameCharacter)) {
      errors.push_back(invalidValue(
          path, text,
          "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' "
          "or "
          "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
          "'my_value',  or '12345', regex used for validation is "
          "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"));
    }
  }
}

void checkConfigKeys(const Json& object, const char* map, std::vector<FieldError>& errors) {
  const auto data = object.find(map);
  if (data == object.end() || !data->is_object()) return;
  for (const auto& [key, value] : data->items()) {
    const bool good = !key.empty() && key.size() <= 253 && key != "." && !key.starts_with("..") &&
                      std::all_of(key.begin(), key.end(), isNameCharacter);
    if (!good) {
      errors.push_back(invalidValue(std::string(map) + "[" + key + "]", key,
                                    "a valid config key must consist of alphanumeric characters, "
                                    "'-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
                                    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"));
    }
  }
}

}  // namespace pointsman::e2e
