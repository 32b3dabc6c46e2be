#include <algorithm>
#include <arpa/inet.h>
#include <set>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

constexpr std::size_t kMaxEndpoints = 1000;
constexpr std::size_t kMaxAddresses = 100;  // of one endpoint
constexpr std::size_t kMaxErrors = 20;      // after which the other endpoints are not looked at

Cells endpointSliceCells(const Json& object, Clock::time_point now) {
  std::string ports;
  const Json& list = arrayAt(object, {"ports"});
  if (list.empty()) {
    ports = "<unset>";
  } else {
    std::vector<std::string> all;
    for (const Json& port : list) {
      all.push_back(port.contains("port") && port["port"].is_number() ? port["port"].dump() : "*");
    }
    ports = joinSome(all, 3);
  }
  std::vector<std::string> addresses;
  for (const Json& endpoint : arrayAt(object, {"endpoints"})) {
    for (const Json& address : arrayAt(endpoint, {"addresses"}))
      addresses.push_back(address);
  }
  return {nameOf(object), stringAt(object, {"addressType"}), ports,
          addresses.empty() ? "<unset>" : joinSome(addresses, 3), age(object, now)};
}

bool isZero(const unsigned char* bytes, std::size_t count) {
  return std::all_of(bytes, bytes + count, [](unsigned char c) { return c == 0; });
}

void checkIpAddress(const std::string& address, bool v4, const std::string& where,
                    std::vector<FieldError>& errors) {
  unsigned char b[16];
  const auto bad = [&](const std::string& why) {
    errors.push_back(invalidValue(where, address, why));
  };
  if (inet_pton(v4 ? AF_INET : AF_INET6, address.c_str(), b) != 1)
    return bad(v4 ? "must be a valid IPv4 address" : "must be a valid IPv6 address");
  if (isZero(b, v4 ? 4 : 16)) bad("may not be unspecified (" + address + ")");
  if (v4 ? b[0] == 127 : b[15] == 1 && isZero(b, 15))
    bad("may not be in the loopback range (127.0.0.0/8, ::1/128)");
  if (v4 ? b[0] == 169 && b[1] == 254 : b[0] == 0xfe && (b[1] & 0xc0) == 0x80)
    bad("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
  if (v4 ? b[0] == 224 && b[1] == 0 && b[2] == 0 : b[0] == 0xff && (b[1] & 15) == 2)
    bad("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
}

void checkEndpoint(const Json& endpoint, const std::string& type, const std::string& path,
                   std::vector<FieldError>& errors) {
  const Json& addresses = arrayAt(endpoint, {"addresses"});
  if (addresses.empty()) {
    errors.push_back(required(path + ".addresses", "must contain at least 1 address"));
  } else if (addresses.size() > kMaxAddresses) {
    errors.push_back(tooMany(path + ".addresses", addresses.size(), kMaxAddresses));
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const std::string where = path + ".addresses[" + std::to_string(i) + "]";
    if (!addresses[i].is_string()) {
      errors.push_back(invalidValue(where, addresses[i], "must be a string"));
    } else if (type == "IPv4" || type == "IPv6") {
      checkIpAddress(addresses[i], type == "IPv4", where, errors);
    } else if (type == "FQDN") {
      if (const auto why = checkDns1123Subdomain(addresses[i].get<std::string>()); !why.empty())
        errors.push_back(invalidValue(where, addresses[i], why));
    }
  }
}

void checkSlicePorts(const Json& ports, const Emulation& emulation,
                     std::vector<FieldError>& errors) {
  const std::size_t most = emulation.atLeast(33) ? 20000 : 100;
  if (ports.size() > most) errors.push_back(tooMany("ports", ports.size(), most));
  std::set<std::string> names;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::string path = "ports[" + std::to_string(i) + "]";
    const std::string name = stringAt(ports[i], {"name"});
    if (!name.empty()) {
      if (const auto why = checkDns1123Label(name); !why.empty())
        errors.push_back(invalidValue(path + ".name", name, why));
    }
    if (!names.insert(name).second) errors.push_back(duplicate(path + ".name", name));
    const std::string protocol = stringAt(ports[i], {"protocol"});
    if (!oneOf(protocol, {"SCTP", "TCP", "UDP"}))
      errors.push_back(notSupported(path + ".protocol", protocol, {"SCTP", "TCP", "UDP"}));
    if (const Json* number = at(ports[i], {"port"})) checkPort(*number, path + ".port", errors);
  }
}

std::vector<FieldError> validateEndpointSlice(const Json& object, const Json* old,
                                              const Emulation& emulation) {
  std::vector<FieldError> errors;
  const std::string type = stringAt(object, {"addressType"});
  const std::vector<std::string> types{"FQDN", "IPv4", "IPv6"};
  if (type.empty()) {
    errors.push_back(required("addressType"));
  } else if (!oneOf(type, types)) {
    errors.push_back(notSupported("addressType", type, types));
  }
  if (old != nullptr && stringAt(*old, {"addressType"}) != type) {
    errors.push_back(invalidValue("addressType", type, "field is immutable"));
  }
  const Json& endpoints = arrayAt(object, {"endpoints"});
  if (endpoints.size() > kMaxEndpoints)
    errors.push_back(tooMany("endpoints", endpoints.size(), kMaxEndpoints));
  for (std::size_t i = 0; i < endpoints.size() && errors.size() < kMaxErrors; ++i)
    checkEndpoint(endpoints[i], type, "endpoints[" + std::to_string(i) + "]", errors);
  checkSlicePorts(arrayAt(object, {"ports"}), emulation, errors);
  return errors;
}

}  // namespace

ResourceType makeEndpointSliceType(const TypeBuilder& build) {
  const bool v1Slices = build.emulation().atLeast(21);
  ResourceType slices =
      build.make("discovery.k8s.io", v1Slices ? "v1" : "v1beta1", "endpointslices", "EndpointSlice",
                 true, {}, v1Slices ? "EndpointSlice" : "EndpointSliceV1beta1");
  slices.columns = {kName, column("AddressType"), column("Ports"), column("Endpoints"), kAge};
  slices.cells = endpointSliceCells;
  slices.generations = true;
  slices.applyDefaults = [](Json& o) {
    if (!o.contains("endpoints")) o["endpoints"] = nullptr;
    if (!o.contains("ports") || !o["ports"].is_array()) {
      if (!o.contains("ports")) o["ports"] = nullptr;
      return;
    }
    for (Json& port : o["ports"]) {
      if (!port.is_object()) continue;
      if (!port.contains("name")) port["name"] = "";
      setDefault(port, "protocol", "TCP");
    }
  };
  slices.validate = [emulation = build.emulation()](const Json& o, const Json* old,
                                                    const RequestInfo&) {
    return validateEndpointSlice(o, old, emulation);
  };
  return slices;
}

}  // namespace pointsman::e2e
