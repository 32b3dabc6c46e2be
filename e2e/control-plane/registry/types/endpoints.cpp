#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells endpointsCells(const Json& object, Clock::time_point now) {
  std::vector<std::string> all;
  for (const Json& subset : arrayAt(object, {"subsets"})) {
    for (const Json& port : arrayAt(subset, {"ports"})) {
      for (const Json& address : arrayAt(subset, {"addresses"})) {
        const std::string ip = stringAt(address, {"ip"});
        const std::string number = std::to_string(intAt(port, {"port"}));
        const bool v6 = ip.find(':') != std::string::npos;
        std::string text = v6 ? "[" : "";
        text.append(ip).append(v6 ? "]:" : ":").append(number);
        all.push_back(std::move(text));
      }
    }
  }
  return {nameOf(object), orNone(joinSome(all, 3)), age(object, now)};
}

}  // namespace

ResourceType makeEndpointsType(const TypeBuilder& build) {
  ResourceType endpoints = build.make("", "v1", "endpoints", "Endpoints", true, {"ep"});
  endpoints.listKind = "EndpointsList";
  endpoints.columns = {kName, column("Endpoints"), kAge};
  endpoints.cells = endpointsCells;
  endpoints.applyDefaults = [](Json& o) {
    if (!o.contains("subsets") || !o["subsets"].is_array()) return;
    for (Json& subset : o["subsets"]) {
      if (!subset.is_object() || !subset.contains("ports")) continue;
      for (Json& port : subset["ports"])
        setDefault(port, "protocol", "TCP");
    }
  };
  return endpoints;
}

}  // namespace pointsman::e2e
