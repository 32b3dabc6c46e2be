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

std::string serviceExternal(const Json& object, bool wide) {
  const std::string type = stringAt(object, {"spec", "type"});
  std::vector<std::string> external;
  for (const Json& ip : arrayAt(object, {"spec", "externalIPs"}))
    external.push_back(ip);
  if (type == "ExternalName") return stringAt(object, {"spec", "externalName"});
  if (type == "LoadBalancer") {
    std::set<std::string> ingress;
    for (const Json& i : arrayAt(object, {"status", "loadBalancer", "ingress"})) {
      const std::string ip = stringAt(i, {"ip"});
      ingress.insert(ip.empty() ? stringAt(i, {"hostname"}) : ip);
    }
    std::string text = join({ingress.begin(), ingress.end()});
    if (!wide && text.size() > 16) text = text.substr(0, 13) + "...";
    if (!external.empty()) text += (text.empty() ? "" : ",") + join(external);
    return text.empty() ? "<pending>" : text;
  }
  return orNone(join(external));
}

Cells serviceCells(const Json& object, Clock::time_point now) {
  std::vector<std::string> ports;
  for (const Json& port : arrayAt(object, {"spec", "ports"})) {
    std::string text = std::to_string(intAt(port, {"port"}));
    if (const auto node = intAt(port, {"nodePort"})) text += ":" + std::to_string(node);
    ports.push_back(text + "/" + stringAt(port, {"protocol"}));
  }
  return {nameOf(object),
          stringAt(object, {"spec", "type"}),
          orNone(stringAt(object, {"spec", "clusterIP"})),
          serviceExternal(object, false),
          orNone(join(ports)),
          age(object, now),
          selectorText(at(object, {"spec", "selector"}))};
}

// spec.ports to be changed; an empty list where there is none.
Json& portsOf(Json& spec) {
  thread_local Json none;
  const auto ports = spec.find("ports");
  if (ports != spec.end() && ports->is_array()) return *ports;
  none = Json::array();
  return none;
}

bool hasNodePorts(const std::string& type) {
  return type == "NodePort" || type == "LoadBalancer";
}

void defaultService(Json& object, const Emulation& emulation) {
  if (!object.contains("spec") || !object["spec"].is_object()) object["spec"] = Json::object();
  Json& spec = object["spec"];
  setDefault(spec, "type", "ClusterIP");
  setDefault(spec, "sessionAffinity", "None");
  if (spec["sessionAffinity"] == "ClientIP") {
    if (at(spec, {"sessionAffinityConfig", "clientIP", "timeoutSeconds"}) == nullptr) {
      spec["sessionAffinityConfig"] = {{"clientIP", {{"timeoutSeconds", 10800}}}};
    }
  } else if (spec["sessionAffinity"] == "None") {
    spec.erase("sessionAffinityConfig");
  }
  for (Json& port : portsOf(spec)) {
    if (!port.is_object()) continue;
    setDefault(port, "protocol", "TCP");
    const bool targets = port.contains("targetPort") && port["targetPort"] != 0 &&
                         !isEmptyString(port["targetPort"]);
    if (!targets && port.contains("port")) port["targetPort"] = port["port"];
  }
  if (hasNodePorts(spec["type"])) setDefault(spec, "externalTrafficPolicy", "Cluster");
  if (emulation.atLeast(22) && spec["type"] != "ExternalName") {
    setDefault(spec, "internalTrafficPolicy", "Cluster");
  }
  if (emulation.atLeast(22) && spec["type"] == "LoadBalancer") {
    setDefaultNumber(spec, "allocateLoadBalancerNodePorts", true);
  }
  if (!object.contains("status")) object["status"] = {{"loadBalancer", Json::object()}};
}

// A port without a node port keeps the one it has.
void keepNodePorts(Json& spec, const Json& before) {
  for (Json& port : portsOf(spec)) {
    if (!port.is_object() || port.contains("nodePort")) continue;
    for (const Json& was : arrayAt(before, {"ports"})) {
      if (was.contains("nodePort") && was["port"] == port.value("port", Json()) &&
          was.value("protocol", "TCP") == port.value("protocol", "TCP")) {
        port["nodePort"] = was["nodePort"];
      }
    }
  }
}

// What only a type with node ports has goes when the type changes, unless the client changes it
// too.
void dropNodePorts(Json& spec, const Json& before) {
  for (Json& port : portsOf(spec)) {
    for (const Json& was : arrayAt(before, {"ports"})) {
      if (port.value("nodePort", 0) != 0 && port.value("nodePort", 0) == was.value("nodePort", 0))
        port.erase("nodePort");
    }
  }
  if (spec.value("externalTrafficPolicy", "") == before.value("externalTrafficPolicy", ""))
    spec.erase("externalTrafficPolicy");
  spec.erase("allocateLoadBalancerNodePorts");
}

// An update that leaves out what the server gave keeps it.
void keepAllocated(Json& o, const Json& old, const RequestInfo& info) {
  if (info.subresource == "status" || !o.contains("spec") || !o["spec"].is_object()) return;
  Json& spec = o["spec"];
  const Json& before = old["spec"];
  const std::string type = spec.value("type", "ClusterIP");
  if (type == "ExternalName") return;
  for (const char* field : {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}) {
    if (!spec.contains(field) && before.contains(field)) spec[field] = before[field];
  }
  if (hasNodePorts(type)) {
    keepNodePorts(spec, before);
  } else if (hasNodePorts(before.value("type", ""))) {
    dropNodePorts(spec, before);
  }
  if (spec.value("healthCheckNodePort", 0) == 0 && before.contains("healthCheckNodePort") &&
      type == "LoadBalancer" && spec.value("externalTrafficPolicy", "") == "Local") {
    spec["healthCheckNodePort"] = before["healthCheckNodePort"];
  }
}

bool isPortName(const std::string& text) {
  return !text.empty() && text.size() <= 15 &&
         std::all_of(
             text.begin(), text.end(),
             [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }) &&
         std::any_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; }) &&
         text.front() != '-' && text.back() != '-' && text.find("--") == std::string::npos;
}

void checkTargetPort(const Json& target, const std::string& path, std::vector<FieldError>& errors) {
  if (target.is_number()) {
    checkPort(target, path, errors);
  } else if (target.is_string() && !isPortName(target)) {
    errors.push_back(invalidValue(path, target,
                                  "must contain only alpha-numeric characters (a-z, 0-9), and "
                                  "hyphens (-), at least one letter (a-z), at most 15 characters"));
  }
}

void checkPorts(const Json& ports, const std::string& type, std::vector<FieldError>& errors) {
  std::set<std::string> names;
  std::set<std::pair<std::string, std::int64_t>> portKeys;
  std::set<std::pair<std::string, std::int64_t>> nodePorts;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const Json& port = ports[i];
    const std::string path = "spec.ports[" + std::to_string(i) + "]";
    const std::string name = stringAt(port, {"name"});
    if (name.empty()) {
      if (ports.size() > 1) errors.push_back(required(path + ".name"));
    } else if (const auto why = checkDns1123Label(name); !why.empty()) {
      errors.push_back(invalidValue(path + ".name", name, why));
    } else if (!names.insert(name).second) {
      errors.push_back(duplicate(path + ".name", name));
    }
    checkPort(port.value("port", Json(0)), path + ".port", errors);
    const std::string protocol = stringAt(port, {"protocol"});
    if (!oneOf(protocol, {"SCTP", "TCP", "UDP"})) {
      errors.push_back(notSupported(path + ".protocol", protocol, {"SCTP", "TCP", "UDP"}));
    }
    checkTargetPort(port.value("targetPort", Json()), path + ".targetPort", errors);
    if (!portKeys.insert({protocol, intAt(port, {"port"})}).second)
      errors.push_back(duplicate(path, Json{{"port", port["port"]}, {"protocol", protocol}}));
    const auto node = intAt(port, {"nodePort"});
    if (node == 0) continue;
    if (type == "ClusterIP" || type == "ExternalName") {
      errors.push_back(
          forbiddenValue(path + ".nodePort", "may not be used when `type` is '" + type + "'"));
    } else if (!nodePorts.insert({protocol, node}).second) {
      errors.push_back(duplicate(path + ".nodePort", node));
    }
  }
}

void checkType(const Json& spec, const std::string& type, std::vector<FieldError>& errors) {
  const bool headless = stringAt(spec, {"clusterIP"}) == "None";
  if (arrayAt(spec, {"ports"}).empty() && !headless && type != "ExternalName")
    errors.push_back(required("spec.ports"));
  if (!oneOf(type, {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"})) {
    errors.push_back(
        notSupported("spec.type", type, {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}));
  }
  if (hasNodePorts(type) && headless) {
    errors.push_back(invalidValue("spec.clusterIPs[0]", "None",
                                  "may not be set to 'None' for " + type + " services"));
  }
  if (type == "ExternalName") {
    std::string name = stringAt(spec, {"externalName"});
    if (!name.empty() && name.back() == '.') name.pop_back();
    if (name.empty()) {
      errors.push_back(required("spec.externalName"));
    } else if (const auto why = checkDns1123Subdomain(name); !why.empty()) {
      errors.push_back(invalidValue("spec.externalName", name, why));
    }
  }
}

void checkAffinity(const Json& spec, std::vector<FieldError>& errors) {
  const std::string affinity = stringAt(spec, {"sessionAffinity"});
  if (!oneOf(affinity, {"ClientIP", "None"})) {
    errors.push_back(notSupported("spec.sessionAffinity", affinity, {"ClientIP", "None"}));
  } else if (affinity == "ClientIP") {
    const auto seconds = intAt(spec, {"sessionAffinityConfig", "clientIP", "timeoutSeconds"});
    if (seconds <= 0 || seconds > 86400) {
      errors.push_back(invalidValue("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds,
                                    "must be greater than 0 and less than 86400"));
    }
  }
}

void checkExternalIps(const Json& externals, std::vector<FieldError>& errors) {
  for (std::size_t i = 0; i < externals.size(); ++i) {
    unsigned char bytes[16];
    const std::string ip = externals[i].is_string() ? externals[i].get<std::string>() : "";
    if (inet_pton(AF_INET, ip.c_str(), bytes) != 1 && inet_pton(AF_INET6, ip.c_str(), bytes) != 1) {
      errors.push_back(
          invalidValue("spec.externalIPs[" + std::to_string(i) + "]", externals[i],
                       "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
  }
}

void checkTrafficPolicies(const Json& spec, const std::string& type, const Emulation& emulation,
                          std::vector<FieldError>& errors) {
  if (const std::string policy = stringAt(spec, {"externalTrafficPolicy"}); !policy.empty()) {
    if (!hasNodePorts(type) && arrayAt(spec, {"externalIPs"}).empty()) {
      errors.push_back(invalidValue("spec.externalTrafficPolicy", policy,
                                    "may only be set for externally-accessible services"));
    } else if (!oneOf(policy, {"Cluster", "Local"})) {
      errors.push_back(notSupported("spec.externalTrafficPolicy", policy, {"Cluster", "Local"}));
    }
  }
  if (const std::string policy = stringAt(spec, {"internalTrafficPolicy"});
      !policy.empty() && !oneOf(policy, {"Cluster", "Local"})) {
    errors.push_back(notSupported("spec.internalTrafficPolicy", policy, {"Cluster", "Local"}));
  }
  const std::string distribution = stringAt(spec, {"trafficDistribution"});
  std::vector<std::string> allowed{"PreferClose"};
  if (emulation.atLeast(34)) allowed = {"PreferClose", "PreferSameNode", "PreferSameZone"};
  if (!distribution.empty() && !oneOf(distribution, allowed))
    errors.push_back(notSupported("spec.trafficDistribution", distribution, allowed));
}

void checkClusterIpKept(const Json& spec, const Json& old, std::vector<FieldError>& errors) {
  if (stringAt(spec, {"type"}) == "ExternalName" ||
      stringAt(old, {"spec", "type"}) == "ExternalName")
    return;
  const std::string before = stringAt(old, {"spec", "clusterIP"});
  const std::string after = stringAt(spec, {"clusterIP"});
  if (!before.empty() && before != after)
    errors.push_back(invalidValue("spec.clusterIPs[0]", after, "may not change once set"));
}

std::vector<FieldError> validateService(const Json& object, const Json* old,
                                        const Emulation& emulation) {
  std::vector<FieldError> errors;
  if (const auto why = checkDns1035Label(nameOf(object));
      old == nullptr && !why.empty() && !emulation.atLeast(36)) {
    errors.push_back(invalidValue("metadata.name", nameOf(object), why));
  }
  const Json& spec = object["spec"];
  const std::string type = stringAt(spec, {"type"});
  checkType(spec, type, errors);
  checkAffinity(spec, errors);
  checkPorts(arrayAt(spec, {"ports"}), type, errors);
  if (const Json* selector = at(spec, {"selector"}))
    checkLabels(*selector, "spec.selector", errors);
  checkExternalIps(arrayAt(spec, {"externalIPs"}), errors);
  checkTrafficPolicies(spec, type, emulation, errors);
  if (old != nullptr) checkClusterIpKept(spec, *old, errors);
  return errors;
}

}  // namespace

ResourceType makeServiceType(const TypeBuilder& build) {
  ResourceType services = build.make("", "v1", "services", "Service", true, {"svc"});
  services.categories = {"all"};
  services.columns = {kName,
                      column("Type"),
                      column("Cluster-IP"),
                      column("External-IP"),
                      column("Port(s)"),
                      kAge,
                      column("Selector", "string", 1)};
  services.cells = serviceCells;
  services.prepareForCreate = [](Json& o, const RequestInfo&) {
    o["status"] = {{"loadBalancer", Json::object()}};
  };
  services.prepareForUpdate = keepAllocated;
  services.applyDefaults = [emulation = build.emulation()](Json& o) {
    defaultService(o, emulation);
  };
  services.validate = [emulation = build.emulation()](const Json& o, const Json* old,
                                                      const RequestInfo& info) {
    return info.subresource == "status" ? std::vector<FieldError>()
                                        : validateService(o, old, emulation);
  };
  build.indexFields(services, {"spec.clusterIP", "spec.type"});
  return services;
}

}  // namespace pointsman::e2e
