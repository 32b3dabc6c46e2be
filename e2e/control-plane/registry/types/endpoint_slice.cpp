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

Cells EndpointSliceCells(const Json& object, Clock::time_point now) {
  std::string ports;
  const Json& list = ArrayAt(object, {"ports"});
  if (list.empty()) {
    ports = "<unset>";
  } else {
    std::vector<std::string> all;
    for (const Json& port : list) {
      all.push_back(port.contains("port") && port["port"].is_number() ? port["port"].dump() : "*");
    }
    ports = JoinSome(all, 3);
  }
  std::vector<std::string> addresses;
  for (const Json& endpoint : ArrayAt(object, {"endpoints"})) {
    for (const Json& address : ArrayAt(endpoint, {"addresses"}))
      addresses.push_back(address);
  }
  return {NameOf(object), StringAt(object, {"addressType"}), ports,
          addresses.empty() ? "<unset>" : JoinSome(addresses, 3), Age(object, now)};
}

bool IsZero(const unsigned char* bytes, std::size_t count) {
  return std::all_of(bytes, bytes + count, [](unsigned char c) { return c == 0; });
}

void CheckIpAddress(const std::string& address, bool v4, const std::string& where,
                    std::vector<FieldError>& errors) {
  unsigned char b[16];
  const auto bad = [&](const std::string& why) {
    errors.push_back(InvalidValue(where, address, why));
  };
  if (inet_pton(v4 ? AF_INET : AF_INET6, address.c_str(), b) != 1)
    return bad(v4 ? "must be a valid IPv4 address" : "must be a valid IPv6 address");
  if (IsZero(b, v4 ? 4 : 16)) bad("may not be unspecified (" + address + ")");
  if (v4 ? b[0] == 127 : b[15] == 1 && IsZero(b, 15))
    bad("may not be in the loopback range (127.0.0.0/8, ::1/128)");
  if (v4 ? b[0] == 169 && b[1] == 254 : b[0] == 0xfe && (b[1] & 0xc0) == 0x80)
    bad("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
  if (v4 ? b[0] == 224 && b[1] == 0 && b[2] == 0 : b[0] == 0xff && (b[1] & 15) == 2)
    bad("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
}

void CheckEndpoint(const Json& endpoint, const std::string& type, const std::string& path,
                   std::vector<FieldError>& errors) {
  const Json& addresses = ArrayAt(endpoint, {"addresses"});
  if (addresses.empty()) {
    errors.push_back(Required(path + ".addresses", "must contain at least 1 address"));
  } else if (addresses.size() > kMaxAddresses) {
    errors.push_back(TooMany(path + ".addresses", addresses.size(), kMaxAddresses));
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const std::string where = path + ".addresses[" + std::to_string(i) + "]";
    if (!addresses[i].is_string()) {
      errors.push_back(InvalidValue(where, addresses[i], "must be a string"));
    } else if (type == "IPv4" || type == "IPv6") {
      CheckIpAddress(addresses[i], type == "IPv4", where, errors);
    } else if (type == "FQDN") {
      if (const auto why = CheckDns1123Subdomain(addresses[i].get<std::string>()); !why.empty())
        errors.push_back(InvalidValue(where, addresses[i], why));
    }
  }
}

void CheckSlicePorts(const Json& ports, const Emulation& emulation,
                     std::vector<FieldError>& errors) {
  const std::size_t most = emulation.AtLeast(33) ? 20000 : 100;
  if (ports.size() > most) errors.push_back(TooMany("ports", ports.size(), most));
  std::set<std::string> names;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::string path = "ports[" + std::to_string(i) + "]";
    const std::string name = StringAt(ports[i], {"name"});
    if (!name.empty()) {
      if (const auto why = CheckDns1123Label(name); !why.empty())
        errors.push_back(InvalidValue(path + ".name", name, why));
    }
    if (!names.insert(name).second) errors.push_back(Duplicate(path + ".name", name));
    const std::string protocol = StringAt(ports[i], {"protocol"});
    if (!OneOf(protocol, {"SCTP", "TCP", "UDP"}))
      errors.push_back(NotSupported(path + ".protocol", protocol, {"SCTP", "TCP", "UDP"}));
    // The number is not looked at: an API server takes 70000.
  }
}

std::vector<FieldError> ValidateEndpointSlice(const Json& object, const Json* old,
                                              const Emulation& emulation) {
  std::vector<FieldError> errors;
  const std::string type = StringAt(object, {"addressType"});
  const std::vector<std::string> types{"FQDN", "IPv4", "IPv6"};
  if (!type.empty() && !OneOf(type, types)) {
    errors.push_back(NotSupported("addressType", type, types));
  }
  if (old != nullptr && StringAt(*old, {"addressType"}) != type) {
    errors.push_back(InvalidValue("addressType", type, "field is immutable"));
  }
  const Json& endpoints = ArrayAt(object, {"endpoints"});
  if (endpoints.size() > kMaxEndpoints)
    errors.push_back(TooMany("endpoints", endpoints.size(), kMaxEndpoints));
  for (std::size_t i = 0; i < endpoints.size() && errors.size() < kMaxErrors; ++i)
    CheckEndpoint(endpoints[i], type, "endpoints[" + std::to_string(i) + "]", errors);
  CheckSlicePorts(ArrayAt(object, {"ports"}), emulation, errors);
  return errors;
}

}  // namespace

ResourceType MakeEndpointSliceType(const TypeBuilder& build) {
  const bool v1_slices = build.emulation().AtLeast(21);
  ResourceType slices =
      build.Make("discovery.k8s.io", v1_slices ? "v1" : "v1beta1", "endpointslices",
                 "EndpointSlice", true, {}, v1_slices ? "EndpointSlice" : "EndpointSliceV1beta1");
  slices.columns = {kName, Column("AddressType"), Column("Ports"), Column("Endpoints"), kAge};
  slices.cells = EndpointSliceCells;
  slices.generations = true;
  slices.apply_defaults = [](Json& o) {
    if (!o.contains("endpoints")) o["endpoints"] = nullptr;
    if (!o.contains("ports") || !o["ports"].is_array()) {
      if (!o.contains("ports")) o["ports"] = nullptr;
      return;
    }
    for (Json& port : o["ports"]) {
      if (!port.is_object()) continue;
      if (!port.contains("name")) port["name"] = "";
      SetDefault(port, "protocol", "TCP");
    }
  };
  slices.validate = [emulation = build.emulation()](const Json& o, const Json* old,
                                                    const RequestInfo&) {
    return ValidateEndpointSlice(o, old, emulation);
  };
  return slices;
}

}  // namespace pointsman::e2e
