// The lines of a Listing as a document, for -o json and -o yaml.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pointsman::plugin {

class ListingDocument {
 public:
  // As Listing passes them on. Throws Failure: this is no listing.
  void Add(std::string_view line);
  // [{"mode", "protocol", "address", "port", "service", "endpoints": [{"address", "port", …}], …},
  // …]; "address" is null at a node port, "service" where no name is known.
  nlohmann::json Take() { return std::move(services_); }

 private:
  void AddService(std::string_view line);
  void AddEndpoint(std::string_view line);

  std::string mode_;
  nlohmann::json services_ = nlohmann::json::array();
};

}  // namespace pointsman::plugin
