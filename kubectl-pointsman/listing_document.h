// What `pointsman-node-agent --list --list-format=json` prints, for -o json and -o yaml: with the
// names of Services where the kernel has none, and those alone that were asked for.
#pragma once

#include <functional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "kubectl-pointsman/listing.h"

namespace pointsman::plugin {

// [{"mode", "protocol", "family", "address", "port", "service", "endpoints": [{"address", "port",
// …}], …}, …], made of what is understood of `text`. `names` and `wanted`: as of Listing. Throws
// Failure: this is no listing.
nlohmann::json ListedServices(std::string_view text,
                              const std::function<const ServiceNames&()>& names,
                              std::string_view wanted);

}  // namespace pointsman::plugin
