// -o json and -o yaml: a report for programs.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace pointsman::plugin {

// Both end with a line break and are ASCII: what is else in a string is escaped, so that neither
// does anything to a terminal but be read.
std::string JsonDocument(const nlohmann::json& value);
std::string YamlDocument(const nlohmann::json& value);

}  // namespace pointsman::plugin
