// What the validation of the types shares: checks of names and labels, and the wording of field
// errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "e2e/control-plane/registry/status_error.h"

namespace pointsman::e2e {

/// The checks of names: RFC 1123 label and subdomain, RFC 1035 label. Empty when valid, else the
/// text of a real API server.
std::string checkDns1123Label(std::string_view name);
std::string checkDns1123Subdomain(std::string_view name);
std::string checkDns1035Label(std::string_view name);
/// Label keys and values of metadata.labels or of a selector, annotations' keys.
void checkLabels(const Json& labels, const std::string& path, std::vector<FieldError>& errors);
std::string checkQualifiedName(std::string_view name);
/// 1 to 65535.
void checkPort(const Json& value, const std::string& path, std::vector<FieldError>& errors);
/// The keys of a ConfigMap's or Secret's member `map`.
void checkConfigKeys(const Json& object, const char* map, std::vector<FieldError>& errors);

FieldError required(const std::string& field, const std::string& why = "");
FieldError invalidValue(const std::string& field, const Json& value, const std::string& why);
FieldError notSupported(const std::string& field, const std::string& value,
                        const std::vector<std::string>& allowed);
FieldError duplicate(const std::string& field, const Json& value);
FieldError forbiddenValue(const std::string& field, const std::string& why);
FieldError tooMany(const std::string& field, std::size_t count, std::size_t most);
bool oneOf(const std::string& value, const std::vector<std::string>& allowed);
bool isEmptyString(const Json& value);

}  // namespace pointsman::e2e
