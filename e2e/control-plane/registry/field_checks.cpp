#include "e2e/control-plane/registry/field_checks.h"

#include <algorithm>

namespace pointsman::e2e {
namespace {

bool IsAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool IsLowerAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// Letters, digits, '-', '_' and '.'.
bool IsNameCharacter(char c) {
  return IsAlnum(c) || c == '-' || c == '_' || c == '.';
}

}  // namespace

FieldError Required(const std::string& field, const std::string& why) {
  return {field, "FieldValueRequired", why.empty() ? "Required value" : "Required value: " + why};
}

FieldError InvalidValue(const std::string& field, const Json& value, const std::string& why) {
  return {field, "FieldValueInvalid", "Invalid value: " + value.dump() + ": " + why};
}

FieldError NotSupported(const std::string& field, const std::string& value,
                        const std::vector<std::string>& allowed) {
  std::string list;
  for (const std::string& a : allowed)
    list += (list.empty() ? "\"" : ", \"") + a + "\"";
  return {field, "FieldValueNotSupported",
          "Unsupported value: " + Json(value).dump() + ": supported values: " + list};
}

FieldError Duplicate(const std::string& field, const Json& value) {
  return {field, "FieldValueDuplicate", "Duplicate value: " + value.dump()};
}

FieldError ForbiddenValue(const std::string& field, const std::string& why) {
  return {field, "FieldValueForbidden", "Forbidden: " + why};
}

FieldError TooMany(const std::string& field, std::size_t count, std::size_t most) {
  return {field, "FieldValueTooMany",
          "Too many: " + std::to_string(count) + ": must have at most " + std::to_string(most) +
              " items"};
}

bool OneOf(const std::string& value, const std::vector<std::string>& allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

bool IsEmptyString(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>().empty();
}

void CheckPort(const Json& value, const std::string& path, std::vector<FieldError>& errors) {
  if (!value.is_number_integer() || value < 1 || value > 65535) {
    errors.push_back(InvalidValue(path, value, "must be between 1 and 65535, inclusive"));
  }
}

std::string CheckDns1123Label(std::string_view name) {
  static const std::string text =
      "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
      "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
      "used "
      "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
  if (name.size() > 63) return "must be no more than 63 characters";
  if (name.empty() || !IsLowerAlnum(name.front()) || !IsLowerAlnum(name.back()) ||
      !std::all_of(name.begin(), name.end(), [](char c) { return IsLowerAlnum(c) || c == '-'; })) {
    return text;
  }
  return {};
}

std::string CheckDns1123Subdomain(std::string_view name) {
  static const std::string text =
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
      "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
      "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
  if (name.size() > 253) return "must be no more than 253 characters";
  if (name.empty()) return text;
  while (true) {
    const auto dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || !IsLowerAlnum(label.front()) || !IsLowerAlnum(label.back()) ||
        !std::all_of(label.begin(), label.end(),
                     [](char c) { return IsLowerAlnum(c) || c == '-'; })) {
      return text;
    }
    if (dot == std::string_view::npos) return {};
    name.remove_prefix(dot + 1);
  }
}

std::string CheckDns1035Label(std::string_view name) {
  if (name.size() > 63) return "must be no more than 63 characters";
  if (name.empty() || name.front() < 'a' || name.front() > 'z' || !IsLowerAlnum(name.back()) ||
      !std::all_of(name.begin(), name.end(), [](char c) { return IsLowerAlnum(c) || c == '-'; })) {
    return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with "
           "an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
           "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
  }
  return {};
}

std::string CheckQualifiedName(std::string_view name) {
  const auto slash = name.find('/');
  std::string_view part = name;
  if (slash != std::string_view::npos) {
    const auto why = CheckDns1123Subdomain(name.substr(0, slash));
    if (!why.empty()) return "prefix part " + why;
    part = name.substr(slash + 1);
  }
  if (part.empty()) return "name part must be non-empty";
  if (part.size() > 63) return "name part must be no more than 63 characters";
  if (!IsAlnum(part.front()) || !IsAlnum(part.back()) ||
      !std::all_of(part.begin(), part.end(), IsNameCharacter)) {
    return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and "
           "end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex "
           "used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
  }
  return {};
}

void CheckLabels(const Json& labels, const std::string& path, std::vector<FieldError>& errors) {
  if (!labels.is_object()) return;
  for (const auto& [key, value] : labels.items()) {
    if (const auto why = CheckQualifiedName(key); !why.empty()) {
      errors.push_back(InvalidValue(path, key, why));
    }
    if (!value.is_string()) {
      errors.push_back(InvalidValue(path, value, "must be a string"));
      continue;
    }
    const std::string text = value;
    if (text.empty()) continue;
    if (text.size() > 63) {
      errors.push_back(InvalidValue(path, text, "must be no more than 63 characters"));
    } else if (!IsAlnum(text.front()) || !IsAlnum(text.back()) ||
               !std::all_of(text.begin(), text.end(), IsNameCharacter)) {
      errors.push_back(InvalidValue(
          path, text,
          "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' "
          "or "
          "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
          "'my_value',  or '12345', regex used for validation is "
          "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"));
    }
  }
}

void CheckConfigKeys(const Json& object, const char* map, std::vector<FieldError>& errors) {
  const auto data = object.find(map);
  if (data == object.end() || !data->is_object()) return;
  for (const auto& [key, value] : data->items()) {
    const bool good = !key.empty() && key.size() <= 253 && key != "." && !key.starts_with("..") &&
                      std::all_of(key.begin(), key.end(), IsNameCharacter);
    if (!good) {
      errors.push_back(InvalidValue(std::string(map) + "[" + key + "]", key,
                                    "a valid config key must consist of alphanumeric characters, "
                                    "'-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
                                    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"));
    }
  }
}

}  // namespace pointsman::e2e
