// What the validation of the types shares: checks of names and labels, and the wording of field
// errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// The checks of names: RFC 1123 label and subdomain, RFC 1035 label. Empty when valid, else the
// text of a real API server.
std::string CheckDns1123Label(std::string_view name);
std::string CheckDns1123Subdomain(std::string_view name);
std::string CheckDns1035Label(std::string_view name);
// Label keys and values of metadata.labels or of a selector, annotations' keys.
void CheckLabels(const Json& labels, const std::string& path, std::vector<FieldError>& errors);
std::string CheckQualifiedName(std::string_view name);
// 1 to 65535.
void CheckPort(const Json& value, const std::string& path, std::vector<FieldError>& errors);
// The keys of a ConfigMap's or Secret's member `map`.
void CheckConfigKeys(const Json& object, const char* map, std::vector<FieldError>& errors);

FieldError Required(const std::string& field, const std::string& why = "");
FieldError InvalidValue(const std::string& field, const Json& value, const std::string& why);
FieldError NotSupported(const std::string& field, const std::string& value,
                        const std::vector<std::string>& allowed);
FieldError Duplicate(const std::string& field, const Json& value);
FieldError ForbiddenValue(const std::string& field, const std::string& why);
FieldError TooMany(const std::string& field, std::size_t count, std::size_t most);
bool OneOf(const std::string& value, const std::vector<std::string>& allowed);
bool IsEmptyString(const Json& value);

}  // namespace pointsman::e2e
