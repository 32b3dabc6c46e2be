// ProxyConfigurations in a file, as `kubectl apply -f` reads it: YAML or JSON, several documents,
// Lists.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace pointsman::plugin {

struct Manifest {
  nlohmann::json object;
  std::string place;  // "file.yaml:12"
  std::string name;
};

// Those of kind ProxyConfiguration that say what the operator would accept. `others`: gets the
// kinds of other objects, which are left out. Throws Failure (kError) with every error, each with
// file, line and field.
std::vector<Manifest> ParseManifests(std::string_view text, const std::string& file,
                                     std::vector<std::string>& others);
// "-": standard input. Throws Failure when it cannot be read or is larger than 1 MiB.
std::string ReadManifestFile(const std::string& file);

}  // namespace pointsman::plugin
