#include "kubectl-pointsman/listing_document.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "kube/net/ip_address.h"
#include "kube/objects/service.h"
#include "kube/text/text.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {
namespace {

using nlohmann::json;

// {"services": [{"endpoints": [{…}]}]}: whoever answers for the agent nests no deeper.
constexpr int kDeepest = 5;

[[noreturn]] void RefuseListing(std::string_view what) {
  throw Failure(ExitCode::kError,
                "what the agent answers is no list of Services: " + text::Quote(what));
}

const json& FieldOf(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) RefuseListing(std::string("no ") + name);
  return *found;
}

const std::string& TextField(const json& object, const char* name) {
  const json& value = FieldOf(object, name);
  if (!value.is_string()) RefuseListing(name);
  return value.get_ref<const std::string&>();
}

uint16_t PortField(const json& object) {
  const json& value = FieldOf(object, "port");
  constexpr uint64_t kMost = std::numeric_limits<uint16_t>::max();
  if (!value.is_number_unsigned() || value.get<uint64_t>() > kMost) RefuseListing("port");
  return value.get<uint16_t>();
}

net::IpAddress AddressField(const json& object) {
  const auto address = net::IpAddress::Parse(TextField(object, "address"));
  if (!address) RefuseListing("address");
  return *address;
}

const json& ObjectsField(const json& object, const char* name) {
  const json& value = FieldOf(object, name);
  if (!value.is_array()) RefuseListing(name);
  for (const json& item : value) {
    if (!item.is_object()) RefuseListing(name);
  }
  return value;
}

json EndpointOf(const json& said) {
  json endpoint = {{"address", AddressField(said).ToString()}, {"port", PortField(said)}};
  for (const char* number : {"weight", "active", "inactive"}) {
    const auto found = said.find(number);
    if (found == said.end()) continue;
    if (!found->is_number_integer()) RefuseListing(number);
    endpoint[number] = *found;
  }
  return endpoint;
}

std::optional<json> ServiceOf(const json& said, const std::function<const ServiceNames&()>& names,
                              std::string_view wanted) {
  const std::string& protocol = TextField(said, "protocol");
  const std::string& family = TextField(said, "family");
  if (!kube::ParseProtocol(protocol)) RefuseListing("protocol");
  if (family != "IPv4" && family != "IPv6") RefuseListing("family");
  std::optional<net::IpAddress> address;
  if (!FieldOf(said, "address").is_null()) address = AddressField(said);
  const uint16_t port = PortField(said);
  std::string name;
  if (FieldOf(said, "service").is_null()) {
    const net::Family of = family == "IPv4" ? net::Family::kIPv4 : net::Family::kIPv6;
    name = names().Of(protocol, PlaceOf(address, of, port));
  } else {
    name = TextField(said, "service");
  }
  const std::string shown = address ? address->ToString() : "*";
  if (!IsWanted(wanted, name.empty() ? "-" : name, shown)) return std::nullopt;
  json service = {{"mode", TextField(said, "mode")},
                  {"protocol", protocol},
                  {"family", family},
                  {"address", address ? json(shown) : json(nullptr)},
                  {"port", port},
                  {"service", name.empty() ? json(nullptr) : json(name)},
                  {"endpoints", json::array()}};
  for (const char* more : {"scheduler", "note", "refused"}) {
    if (said.contains(more)) service[more] = TextField(said, more);
  }
  for (const json& endpoint : ObjectsField(said, "endpoints"))
    service["endpoints"].push_back(EndpointOf(endpoint));
  return service;
}

}  // namespace

json ListedServices(std::string_view text, const std::function<const ServiceNames&()>& names,
                    std::string_view wanted) {
  const auto shallow = [](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) RefuseListing("it nests too deep");
    return true;
  };
  const json said = json::parse(text, shallow, /*allow_exceptions=*/false);
  if (!said.is_object()) RefuseListing(text::Shorten(text, 200));
  json services = json::array();
  for (const json& item : ObjectsField(said, "services")) {
    if (auto service = ServiceOf(item, names, wanted)) services.push_back(*std::move(service));
  }
  return services;
}

}  // namespace pointsman::plugin
