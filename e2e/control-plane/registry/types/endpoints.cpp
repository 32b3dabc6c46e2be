#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells EndpointsCells(const Json& object, Clock::time_point now) {
  std::vector<std::string> all;
  for (const Json& subset : ArrayAt(object, {"subsets"})) {
    for (const Json& port : ArrayAt(subset, {"ports"})) {
      for (const Json& address : ArrayAt(subset, {"addresses"})) {
        const std::string ip = StringAt(address, {"ip"});
        const std::string number = std::to_string(IntAt(port, {"port"}));
        const bool v6 = ip.find(':') != std::string::npos;
        std::string text = v6 ? "[" : "";
        text.append(ip).append(v6 ? "]:" : ":").append(number);
        all.push_back(std::move(text));
      }
    }
  }
  return {NameOf(object), OrNone(JoinSome(all, 3)), Age(object, now)};
}

}  // namespace

ResourceType MakeEndpointsType(const TypeBuilder& build) {
  ResourceType endpoints = build.Make("", "v1", "endpoints", "Endpoints", true, {"ep"});
  endpoints.list_kind = "EndpointsList";
  endpoints.columns = {kName, Column("Endpoints"), kAge};
  endpoints.cells = EndpointsCells;
  endpoints.apply_defaults = [](Json& o) {
    if (!o.contains("subsets") || !o["subsets"].is_array()) return;
    for (Json& subset : o["subsets"]) {
      if (!subset.is_object() || !subset.contains("ports")) continue;
      for (Json& port : subset["ports"])
        SetDefault(port, "protocol", "TCP");
    }
  };
  return endpoints;
}

}  // namespace pointsman::e2e
