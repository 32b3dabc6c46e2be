#include <algorithm>
#include <arpa/inet.h>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

std::string ServiceExternal(const Json& object, bool wide) {
  const std::string type = StringAt(object, {"spec", "type"});
  std::vector<std::string> external;
  for (const Json& ip : ArrayAt(object, {"spec", "externalIPs"}))
    external.push_back(ip);
  if (type == "ExternalName") return StringAt(object, {"spec", "externalName"});
  if (type == "LoadBalancer") {
    std::set<std::string> ingress;
    for (const Json& i : ArrayAt(object, {"status", "loadBalancer", "ingress"})) {
      const std::string ip = StringAt(i, {"ip"});
      ingress.insert(ip.empty() ? StringAt(i, {"hostname"}) : ip);
    }
    std::string text = Join({ingress.begin(), ingress.end()});
    if (!wide && text.size() > 16) text = text.substr(0, 13) + "...";
    if (!external.empty()) text += (text.empty() ? "" : ",") + Join(external);
    return text.empty() ? "<pending>" : text;
  }
  return OrNone(Join(external));
}

Cells ServiceCells(const Json& object, Clock::time_point now) {
  std::vector<std::string> ports;
  for (const Json& port : ArrayAt(object, {"spec", "ports"})) {
    std::string text = std::to_string(IntAt(port, {"port"}));
    if (const auto node = IntAt(port, {"nodePort"})) text += ":" + std::to_string(node);
    ports.push_back(text + "/" + StringAt(port, {"protocol"}));
  }
  return {NameOf(object),
          StringAt(object, {"spec", "type"}),
          OrNone(StringAt(object, {"spec", "clusterIP"})),
          ServiceExternal(object, false),
          OrNone(Join(ports)),
          Age(object, now),
          SelectorText(At(object, {"spec", "selector"}))};
}

// spec.ports to be changed; an empty list where there is none.
Json& PortsOf(Json& spec) {
  thread_local Json none;
  const auto ports = spec.find("ports");
  if (ports != spec.end() && ports->is_array()) return *ports;
  none = Json::array();
  return none;
}

bool HasNodePorts(const std::string& type) {
  return type == "NodePort" || type == "LoadBalancer";
}

void DefaultService(Json& object, const Emulation& emulation) {
  if (!object.contains("spec") || !object["spec"].is_object()) object["spec"] = Json::object();
  Json& spec = object["spec"];
  SetDefault(spec, "type", "ClusterIP");
  SetDefault(spec, "sessionAffinity", "None");
  if (spec["sessionAffinity"] == "ClientIP") {
    if (At(spec, {"sessionAffinityConfig", "clientIP", "timeoutSeconds"}) == nullptr) {
      spec["sessionAffinityConfig"] = {{"clientIP", {{"timeoutSeconds", 10800}}}};
    }
  } else if (spec["sessionAffinity"] == "None") {
    spec.erase("sessionAffinityConfig");
  }
  for (Json& port : PortsOf(spec)) {
    if (!port.is_object()) continue;
    SetDefault(port, "protocol", "TCP");
    const bool targets = port.contains("targetPort") && port["targetPort"] != 0 &&
                         !IsEmptyString(port["targetPort"]);
    if (!targets && port.contains("port")) port["targetPort"] = port["port"];
  }
  if (HasNodePorts(spec["type"])) SetDefault(spec, "externalTrafficPolicy", "Cluster");
  if (emulation.AtLeast(22) && spec["type"] != "ExternalName") {
    SetDefault(spec, "internalTrafficPolicy", "Cluster");
  }
  if (emulation.AtLeast(22) && spec["type"] == "LoadBalancer") {
    SetDefaultNumber(spec, "allocateLoadBalancerNodePorts", true);
  }
  if (!object.contains("status")) object["status"] = {{"loadBalancer", Json::object()}};
}

// A port without a node port keeps the one it has.
void KeepNodePorts(Json& spec, const Json& before) {
  for (Json& port : PortsOf(spec)) {
    if (!port.is_object() || port.contains("nodePort")) continue;
    for (const Json& was : ArrayAt(before, {"ports"})) {
      if (was.contains("nodePort") && was["port"] == port.value("port", Json()) &&
          was.value("protocol", "TCP") == port.value("protocol", "TCP")) {
        port["nodePort"] = was["nodePort"];
      }
    }
  }
}

// What only a type with node ports has goes when the type changes, unless the client changes it
// too.
void DropNodePorts(Json& spec, const Json& before) {
  for (Json& port : PortsOf(spec)) {
    for (const Json& was : ArrayAt(before, {"ports"})) {
      if (port.value("nodePort", 0) != 0 && port.value("nodePort", 0) == was.value("nodePort", 0))
        port.erase("nodePort");
    }
  }
  if (spec.value("externalTrafficPolicy", "") == before.value("externalTrafficPolicy", ""))
    spec.erase("externalTrafficPolicy");
  spec.erase("allocateLoadBalancerNodePorts");
}

// An update that leaves out what the server gave keeps it.
void KeepAllocated(Json& o, const Json& old, const RequestInfo& info) {
  if (info.subresource == "status" || !o.contains("spec") || !o["spec"].is_object()) return;
  Json& spec = o["spec"];
  const Json& before = old["spec"];
  const std::string type = spec.value("type", "ClusterIP");
  if (type == "ExternalName") return;
  for (const char* field : {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}) {
    if (!spec.contains(field) && before.contains(field)) spec[field] = before[field];
  }
  if (HasNodePorts(type)) {
    KeepNodePorts(spec, before);
  } else if (HasNodePorts(before.value("type", ""))) {
    DropNodePorts(spec, before);
  }
  if (spec.value("healthCheckNodePort", 0) == 0 && before.contains("healthCheckNodePort") &&
      type == "LoadBalancer" && spec.value("externalTrafficPolicy", "") == "Local") {
    spec["healthCheckNodePort"] = before["healthCheckNodePort"];
  }
}

bool IsPortName(const std::string& text) {
  return !text.empty() && text.size() <= 15 &&
         std::all_of(
             text.begin(), text.end(),
             [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }) &&
         std::any_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; }) &&
         text.front() != '-' && text.back() != '-' && text.find("--") == std::string::npos;
}

void CheckTargetPort(const Json& target, const std::string& path, std::vector<FieldError>& errors) {
  if (target.is_number()) {
    CheckPort(target, path, errors);
  } else if (target.is_string() && !IsPortName(target)) {
    errors.push_back(InvalidValue(path, target,
                                  "must contain only alpha-numeric characters (a-z, 0-9), and "
                                  "hyphens (-), at least one letter (a-z), at most 15 characters"));
  }
}

void CheckPorts(const Json& ports, const std::string& type, std::vector<FieldError>& errors) {
  std::set<std::string> names;
  std::set<std::pair<std::string, std::int64_t>> port_keys;
  std::set<std::pair<std::string, std::int64_t>> node_ports;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const Json& port = ports[i];
    const std::string path = "spec.ports[" + std::to_string(i) + "]";
    const std::string name = StringAt(port, {"name"});
    if (name.empty()) {
      if (ports.size() > 1) errors.push_back(Required(path + ".name"));
    } else if (const auto why = CheckDns1123Label(name); !why.empty()) {
      errors.push_back(InvalidValue(path + ".name", name, why));
    } else if (!names.insert(name).second) {
      errors.push_back(Duplicate(path + ".name", name));
    }
    CheckPort(port.value("port", Json(0)), path + ".port", errors);
    const std::string protocol = StringAt(port, {"protocol"});
    if (!OneOf(protocol, {"SCTP", "TCP", "UDP"})) {
      errors.push_back(NotSupported(path + ".protocol", protocol, {"SCTP", "TCP", "UDP"}));
    }
    CheckTargetPort(port.value("targetPort", Json()), path + ".targetPort", errors);
    if (!port_keys.insert({protocol, IntAt(port, {"port"})}).second)
      errors.push_back(Duplicate(path, Json{{"port", port["port"]}, {"protocol", protocol}}));
    const auto node = IntAt(port, {"nodePort"});
    if (node == 0) continue;
    if (type == "ClusterIP" || type == "ExternalName") {
      errors.push_back(
          ForbiddenValue(path + ".nodePort", "may not be used when `type` is '" + type + "'"));
    } else if (!node_ports.insert({protocol, node}).second) {
      errors.push_back(Duplicate(path + ".nodePort", node));
    }
  }
}

void CheckType(const Json& spec, const std::string& type, std::vector<FieldError>& errors) {
  const bool headless = StringAt(spec, {"clusterIP"}) == "None";
  if (ArrayAt(spec, {"ports"}).empty() && !headless && type != "ExternalName")
    errors.push_back(Required("spec.ports"));
  if (!OneOf(type, {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"})) {
    errors.push_back(
        NotSupported("spec.type", type, {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}));
  }
  if (HasNodePorts(type) && headless) {
    errors.push_back(InvalidValue("spec.clusterIPs[0]", "None",
                                  "may not be set to 'None' for " + type + " services"));
  }
  if (type == "ExternalName") {
    std::string name = StringAt(spec, {"externalName"});
    if (!name.empty() && name.back() == '.') name.pop_back();
    if (name.empty()) {
      errors.push_back(Required("spec.externalName"));
    } else if (const auto why = CheckDns1123Subdomain(name); !why.empty()) {
      errors.push_back(InvalidValue("spec.externalName", name, why));
    }
  }
}

void CheckAffinity(const Json& spec, std::vector<FieldError>& errors) {
  const std::string affinity = StringAt(spec, {"sessionAffinity"});
  if (!OneOf(affinity, {"ClientIP", "None"})) {
    errors.push_back(NotSupported("spec.sessionAffinity", affinity, {"ClientIP", "None"}));
  } else if (affinity == "ClientIP") {
    const auto seconds = IntAt(spec, {"sessionAffinityConfig", "clientIP", "timeoutSeconds"});
    if (seconds <= 0 || seconds > 86400) {
      errors.push_back(InvalidValue("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds,
                                    "must be greater than 0 and less than 86400"));
    }
  }
}

void CheckExternalIps(const Json& externals, std::vector<FieldError>& errors) {
  for (std::size_t i = 0; i < externals.size(); ++i) {
    unsigned char bytes[16];
    const std::string ip = externals[i].is_string() ? externals[i].get<std::string>() : "";
    if (inet_pton(AF_INET, ip.c_str(), bytes) != 1 && inet_pton(AF_INET6, ip.c_str(), bytes) != 1) {
      errors.push_back(
          InvalidValue("spec.externalIPs[" + std::to_string(i) + "]", externals[i],
                       "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
  }
}

void CheckTrafficPolicies(const Json& spec, const std::string& type, const Emulation& emulation,
                          std::vector<FieldError>& errors) {
  if (const std::string policy = StringAt(spec, {"externalTrafficPolicy"}); !policy.empty()) {
    if (!HasNodePorts(type) && ArrayAt(spec, {"externalIPs"}).empty()) {
      errors.push_back(InvalidValue("spec.externalTrafficPolicy", policy,
                                    "may only be set for externally-accessible services"));
    } else if (!OneOf(policy, {"Cluster", "Local"})) {
      errors.push_back(NotSupported("spec.externalTrafficPolicy", policy, {"Cluster", "Local"}));
    }
  }
  if (const std::string policy = StringAt(spec, {"internalTrafficPolicy"});
      !policy.empty() && !OneOf(policy, {"Cluster", "Local"})) {
    errors.push_back(NotSupported("spec.internalTrafficPolicy", policy, {"Cluster", "Local"}));
  }
  const std::string distribution = StringAt(spec, {"trafficDistribution"});
  std::vector<std::string> allowed{"PreferClose"};
  if (emulation.AtLeast(34)) allowed = {"PreferClose", "PreferSameNode", "PreferSameZone"};
  if (!distribution.empty() && !OneOf(distribution, allowed))
    errors.push_back(NotSupported("spec.trafficDistribution", distribution, allowed));
}

void CheckClusterIpKept(const Json& spec, const Json& old, std::vector<FieldError>& errors) {
  if (StringAt(spec, {"type"}) == "ExternalName" ||
      StringAt(old, {"spec", "type"}) == "ExternalName")
    return;
  const std::string before = StringAt(old, {"spec", "clusterIP"});
  const std::string after = StringAt(spec, {"clusterIP"});
  if (!before.empty() && before != after)
    errors.push_back(InvalidValue("spec.clusterIPs[0]", after, "may not change once set"));
}

void CheckIngress(const Json& ingress, std::vector<FieldError>& errors) {
  unsigned char bytes[16];
  for (std::size_t i = 0; i < ingress.size(); ++i) {
    const std::string ip = StringAt(ingress[i], {"ip"});
    if (ip.empty() || inet_pton(AF_INET, ip.c_str(), bytes) == 1 ||
        inet_pton(AF_INET6, ip.c_str(), bytes) == 1)
      continue;
    errors.push_back(InvalidValue("status.loadBalancer.ingress[" + std::to_string(i) + "].ip", ip,
                                  "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
  }
}

std::vector<FieldError> ValidateService(const Json& object, const Json* old,
                                        const Emulation& emulation) {
  std::vector<FieldError> errors;
  if (const auto why = CheckDns1035Label(NameOf(object));
      old == nullptr && !why.empty() && !emulation.AtLeast(36)) {
    errors.push_back(InvalidValue("metadata.name", NameOf(object), why));
  }
  const Json& spec = object["spec"];
  const std::string type = StringAt(spec, {"type"});
  CheckType(spec, type, errors);
  CheckAffinity(spec, errors);
  CheckPorts(ArrayAt(spec, {"ports"}), type, errors);
  if (const Json* selector = At(spec, {"selector"}))
    CheckLabels(*selector, "spec.selector", errors);
  CheckExternalIps(ArrayAt(spec, {"externalIPs"}), errors);
  CheckTrafficPolicies(spec, type, emulation, errors);
  if (old != nullptr) CheckClusterIpKept(spec, *old, errors);
  return errors;
}

}  // namespace

ResourceType MakeServiceType(const TypeBuilder& build) {
  ResourceType services = build.Make("", "v1", "services", "Service", true, {"svc"});
  services.categories = {"all"};
  services.columns = {kName,
                      Column("Type"),
                      Column("Cluster-IP"),
                      Column("External-IP"),
                      Column("Port(s)"),
                      kAge,
                      Column("Selector", "string", 1)};
  services.cells = ServiceCells;
  services.prepare_for_create = [](Json& o, const RequestInfo&) {
    o["status"] = {{"loadBalancer", Json::object()}};
  };
  services.prepare_for_update = KeepAllocated;
  services.apply_defaults = [emulation = build.emulation()](Json& o) {
    DefaultService(o, emulation);
  };
  services.validate = [emulation = build.emulation()](const Json& o, const Json* old,
                                                      const RequestInfo& info) {
    if (info.subresource != "status") return ValidateService(o, old, emulation);
    std::vector<FieldError> errors;
    CheckIngress(ArrayAt(o, {"status", "loadBalancer", "ingress"}), errors);
    return errors;
  };
  build.IndexFields(services, {"spec.clusterIP", "spec.type"});
  return services;
}

}  // namespace pointsman::e2e
