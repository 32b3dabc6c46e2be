// YAML as JSON values, with the line that each value is on.
#pragma once

#include <map>
#include <string>

#include <nlohmann/json.hpp>

namespace pointsman::agent {

struct YamlDocument {
  nlohmann::json value;
  // "ipvs.scheduler", "nodePortAddresses[1]" -> line, from 1.
  std::map<std::string, int, std::less<>> lines;
  // Keys that are there twice, by path: an error in strict decoding.
  std::map<std::string, int> duplicates;

  // The line of `path` or of the nearest value around it; 0: none.
  int LineOf(const std::string& path) const;
};

// The one document in `text`. Plain words are typed as by the YAML decoder of Kubernetes (YAML 1.1:
// yes, no, on, off are booleans), quoted ones are strings. Throws std::invalid_argument ("line 3:
// …") for what is no YAML, more than one document, keys that are no strings, nesting deeper than 32
// and more than 10,000 values (aliases can blow up a short text).
YamlDocument ParseYaml(const std::string& text);

}  // namespace pointsman::agent
