#include "e2e/control-plane/registry/builtin_types.h"

#include <arpa/inet.h>

#include "e2e/control-plane/registry/builtin_schemas.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/pod_admission.h"

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::system_clock;
using Cells = std::vector<Json>;

bool isAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool isLowerAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

FieldError required(const std::string& field, const std::string& why = "") {
  return {field, "FieldValueRequired", why.empty() ? "Required value" : "Required value: " + why};
}
FieldError invalidValue(const std::string& field, const Json& value, const std::string& why) {
  return {field, "FieldValueInvalid", "Invalid value: " + value.dump() + ": " + why};
}
FieldError notSupported(const std::string& field, const std::string& value,
                        const std::vector<std::string>& allowed) {
  std::string list;
  for (const std::string& a : allowed)
    list += (list.empty() ? "\"" : ", \"") + a + "\"";
  return {field, "FieldValueNotSupported",
          "Unsupported value: " + Json(value).dump() + ": supported values: " + list};
}
bool oneOf(const std::string& value, const std::vector<std::string>& allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}
std::string join(const std::vector<std::string>& parts, const std::string& separator = ",") {
  std::string text;
  for (const std::string& part : parts)
    text += (text.empty() ? "" : separator) + part;
  return text;
}
std::string orNone(const std::string& text) {
  return text.empty() ? "<none>" : text;
}
std::string orUnset(const std::string& text) {
  return text.empty() ? "<unset>" : text;
}
std::string nameOf(const Json& object) {
  return stringAt(object, {"metadata", "name"});
}
std::string age(const Json& object, Clock::time_point now) {
  const Json* metadata = at(object, {"metadata"});
  return metadata == nullptr ? "<unknown>" : ageOf(*metadata, "creationTimestamp", now);
}
std::string selectorText(const Json* selector) {
  if (selector == nullptr || !selector->is_object() || selector->empty()) return "<none>";
  std::string text;
  for (const auto& [key, value] : selector->items()) {
    text +=
        (text.empty() ? "" : ",") + key + "=" + (value.is_string() ? value.get<std::string>() : "");
  }
  return text;
}
std::string labelSelectorText(const Json* selector) {
  if (selector == nullptr || !selector->is_object()) return "<none>";
  std::string text;
  if (const Json* labels = at(*selector, {"matchLabels"}); labels != nullptr && !labels->empty()) {
    text = selectorText(labels);
  }
  for (const Json& e : arrayAt(*selector, {"matchExpressions"})) {
    std::vector<std::string> values;
    for (const Json& v : arrayAt(e, {"values"}))
      values.push_back(v.get<std::string>());
    const std::string op = stringAt(e, {"operator"});
    const std::string key = stringAt(e, {"key"});
    std::string piece = op == "Exists"         ? key
                        : op == "DoesNotExist" ? "!" + key
                        : op == "In"           ? key + " in (" + join(values) + ")"
                                               : key + " notin (" + join(values) + ")";
    text += (text.empty() ? "" : ",") + piece;
  }
  return orNone(text);
}

bool isEmptyString(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>().empty();
}

void setDefault(Json& object, const char* field, const Json& value) {
  if (!object.contains(field) || isEmptyString(object[field])) object[field] = value;
}
// Fills a count in only where the field is absent: 0 is a value.
void setDefaultNumber(Json& object, const char* field, const Json& value) {
  if (!object.contains(field)) object[field] = value;
}

// ---- columns and cells

const TableColumn kName{"Name", "string", "name",
                        "Name must be unique within a namespace. Is required when creating "
                        "resources, although some resources may allow a client to request the "
                        "generation of an appropriate name automatically.",
                        0};
const TableColumn kAge{"Age", "string", "",
                       "CreationTimestamp is a timestamp representing the server time when this "
                       "object was created.",
                       0};
TableColumn column(const char* name, const char* type = "string", int priority = 0) {
  return {name, type, "", name, priority};
}

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

std::string more(const std::vector<std::string>& all, std::size_t most) {
  if (all.size() <= most) return join(all);
  const std::vector<std::string> some(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(most));
  return join(some) + " + " + std::to_string(all.size() - most) + " more...";
}

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
    ports = more(all, 3);
  }
  std::vector<std::string> addresses;
  for (const Json& endpoint : arrayAt(object, {"endpoints"})) {
    for (const Json& address : arrayAt(endpoint, {"addresses"}))
      addresses.push_back(address);
  }
  return {nameOf(object), stringAt(object, {"addressType"}), ports, orUnset(more(addresses, 3)),
          age(object, now)};
}

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
  return {nameOf(object), orNone(more(all, 3)), age(object, now)};
}

Cells nodeCells(const Json& object, Clock::time_point now) {
  std::vector<std::string> status;
  for (const Json& c : arrayAt(object, {"status", "conditions"})) {
    if (stringAt(c, {"type"}) == "Ready") {
      status.emplace_back(stringAt(c, {"status"}) == "True" ? "Ready" : "NotReady");
    }
  }
  if (status.empty()) status.emplace_back("Unknown");
  if (const Json* u = at(object, {"spec", "unschedulable"}); u != nullptr && *u == true) {
    status.emplace_back("SchedulingDisabled");
  }
  std::set<std::string> roles;
  if (const Json* labels = at(object, {"metadata", "labels"}); labels != nullptr) {
    static const std::string prefix = "node-role.kubernetes.io/";
    for (const auto& [key, value] : labels->items()) {
      if (key.starts_with(prefix) && key.size() > prefix.size()) {
        roles.insert(key.substr(prefix.size()));
      } else if (key == "kubernetes.io/role" && value.is_string() && !isEmptyString(value)) {
        roles.insert(value.get<std::string>());
      }
    }
  }
  std::string internal;
  std::string external;
  for (const Json& a : arrayAt(object, {"status", "addresses"})) {
    const std::string type = stringAt(a, {"type"});
    if (type == "InternalIP" && internal.empty()) internal = stringAt(a, {"address"});
    if (type == "ExternalIP" && external.empty()) external = stringAt(a, {"address"});
  }
  const auto info = [&](const char* field) {
    const std::string text = stringAt(object, {"status", "nodeInfo", field});
    return text.empty() ? std::string("<unknown>") : text;
  };
  return {nameOf(object),
          join(status),
          orNone(join({roles.begin(), roles.end()})),
          age(object, now),
          stringAt(object, {"status", "nodeInfo", "kubeletVersion"}),
          orNone(internal),
          orNone(external),
          info("osImage"),
          info("kernelVersion"),
          info("containerRuntimeVersion")};
}

Cells podCells(const Json& object, Clock::time_point now) {
  const Json& statuses = arrayAt(object, {"status", "containerStatuses"});
  int ready = 0;
  std::int64_t restarts = 0;
  std::string reason = stringAt(object, {"status", "phase"});
  if (const std::string r = stringAt(object, {"status", "reason"}); !r.empty()) reason = r;
  bool running = false;
  for (auto s = statuses.rbegin(); s != statuses.rend(); ++s) {
    restarts += intAt(*s, {"restartCount"});
    const std::string waiting = stringAt(*s, {"state", "waiting", "reason"});
    const std::string terminated = stringAt(*s, {"state", "terminated", "reason"});
    if (!waiting.empty()) {
      reason = waiting;
    } else if (!terminated.empty()) {
      reason = terminated;
    } else if (const Json* r = at(*s, {"ready"}); r != nullptr && *r == true) {
      ++ready;
      if (at(*s, {"state", "running"}) != nullptr) running = true;
    }
  }
  if (reason == "Completed" && running) reason = "Running";
  if (at(object, {"metadata", "deletionTimestamp"}) != nullptr) reason = "Terminating";
  std::size_t gates = 0;
  for (const Json& gate : arrayAt(object, {"spec", "readinessGates"})) {
    for (const Json& c : arrayAt(object, {"status", "conditions"})) {
      if (stringAt(c, {"type"}) == stringAt(gate, {"conditionType"}) &&
          stringAt(c, {"status"}) == "True") {
        ++gates;
      }
    }
  }
  const std::size_t wanted = arrayAt(object, {"spec", "readinessGates"}).size();
  return {
      nameOf(object),
      std::to_string(ready) + "/" + std::to_string(arrayAt(object, {"spec", "containers"}).size()),
      reason,
      std::to_string(restarts),
      age(object, now),
      orNone(stringAt(object, {"status", "podIP"})),
      orNone(stringAt(object, {"spec", "nodeName"})),
      orNone(stringAt(object, {"status", "nominatedNodeName"})),
      wanted == 0 ? "<none>" : std::to_string(gates) + "/" + std::to_string(wanted)};
}

// Container names, images and the selector: the wide columns of workloads.
void workloadWide(const Json& object, Cells& cells) {
  std::vector<std::string> names;
  std::vector<std::string> images;
  for (const Json& c : arrayAt(object, {"spec", "template", "spec", "containers"})) {
    names.push_back(stringAt(c, {"name"}));
    images.push_back(stringAt(c, {"image"}));
  }
  cells.emplace_back(join(names));
  cells.emplace_back(join(images));
  cells.emplace_back(labelSelectorText(at(object, {"spec", "selector"})));
}

Cells daemonSetCells(const Json& object, Clock::time_point now) {
  Cells cells{nameOf(object),
              intAt(object, {"status", "desiredNumberScheduled"}),
              intAt(object, {"status", "currentNumberScheduled"}),
              intAt(object, {"status", "numberReady"}),
              intAt(object, {"status", "updatedNumberScheduled"}),
              intAt(object, {"status", "numberAvailable"}),
              selectorText(at(object, {"spec", "template", "spec", "nodeSelector"})),
              age(object, now)};
  workloadWide(object, cells);
  return cells;
}

Cells deploymentCells(const Json& object, Clock::time_point now) {
  Cells cells{nameOf(object),
              std::to_string(intAt(object, {"status", "readyReplicas"})) + "/" +
                  std::to_string(intAt(object, {"spec", "replicas"})),
              intAt(object, {"status", "updatedReplicas"}),
              intAt(object, {"status", "availableReplicas"}), age(object, now)};
  workloadWide(object, cells);
  return cells;
}

Cells eventCells(const Json& object, Clock::time_point now) {
  const bool core = object.contains("involvedObject");
  const Json* about = at(object, {core ? "involvedObject" : "regarding"});
  const auto timeOf = [&](std::initializer_list<const char*> path) {
    return stringAt(object, path);
  };
  std::string first = timeOf({core ? "firstTimestamp" : "deprecatedFirstTimestamp"});
  if (first.empty()) first = timeOf({"eventTime"});
  std::string last = timeOf({"series", "lastObservedTime"});
  if (last.empty()) last = timeOf({core ? "lastTimestamp" : "deprecatedLastTimestamp"});
  if (last.empty()) last = first;
  std::int64_t count = intAt(object, {"series", "count"});
  if (count == 0) count = intAt(object, {core ? "count" : "deprecatedCount"});
  if (count == 0) count = 1;
  std::string source = stringAt(object, {core ? "source" : "deprecatedSource", "component"});
  if (const auto host = stringAt(object, {core ? "source" : "deprecatedSource", "host"});
      !host.empty()) {
    source += ", " + host;
  }
  if (source.empty()) {
    source = stringAt(object, {core ? "reportingComponent" : "reportingController"});
  }
  std::string target;
  if (about != nullptr) {
    std::string kind = stringAt(*about, {"kind"});
    std::transform(kind.begin(), kind.end(), kind.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    target = kind + "/" + stringAt(*about, {"name"});
  }
  std::string message = stringAt(object, {core ? "message" : "note"});
  while (!message.empty() && std::isspace(static_cast<unsigned char>(message.back())))
    message.pop_back();
  return {ageOf(Json{{"t", last}}, "t", now),
          stringAt(object, {"type"}),
          stringAt(object, {"reason"}),
          target,
          about == nullptr ? "" : stringAt(*about, {"fieldPath"}),
          source,
          message,
          ageOf(Json{{"t", first}}, "t", now),
          count,
          nameOf(object)};
}

// ---- defaults

void defaultContainers(Json& podSpec, const char* field) {
  if (!podSpec.contains(field) || !podSpec[field].is_array()) return;
  for (Json& c : podSpec[field]) {
    if (!c.is_object()) continue;
    setDefault(c, "terminationMessagePath", "/dev/termination-log");
    setDefault(c, "terminationMessagePolicy", "File");
    if (!c.contains("resources")) c["resources"] = Json::object();
    if (!c.contains("imagePullPolicy")) {
      const std::string image = stringAt(c, {"image"});
      const auto slash = image.rfind('/');
      const std::string last = slash == std::string::npos ? image : image.substr(slash + 1);
      const auto colon = last.find(':');
      const bool latest = last.find('@') == std::string::npos &&
                          (colon == std::string::npos || last.substr(colon + 1) == "latest");
      c["imagePullPolicy"] = latest ? "Always" : "IfNotPresent";
    }
    if (c.contains("ports")) {
      for (Json& port : c["ports"]) {
        setDefault(port, "protocol", "TCP");
        if (podSpec.contains("hostNetwork") && podSpec["hostNetwork"] == true) {
          setDefaultNumber(port, "hostPort", port.value("containerPort", 0));
        }
      }
    }
    if (c.contains("env")) {
      for (Json& env : c["env"]) {
        if (env.contains("valueFrom") && env["valueFrom"].contains("fieldRef")) {
          setDefault(env["valueFrom"]["fieldRef"], "apiVersion", "v1");
        }
      }
    }
    for (const char* probe : {"livenessProbe", "readinessProbe", "startupProbe"}) {
      if (!c.contains(probe)) continue;
      Json& p = c[probe];
      setDefaultNumber(p, "timeoutSeconds", 1);
      setDefaultNumber(p, "periodSeconds", 10);
      setDefaultNumber(p, "successThreshold", 1);
      setDefaultNumber(p, "failureThreshold", 3);
      if (p.contains("httpGet")) {
        setDefault(p["httpGet"], "path", "/");
        setDefault(p["httpGet"], "scheme", "HTTP");
      }
    }
  }
}

void defaultPodSpec(Json& spec) {
  setDefault(spec, "restartPolicy", "Always");
  setDefault(spec, "dnsPolicy", "ClusterFirst");
  setDefault(spec, "schedulerName", "default-scheduler");
  setDefaultNumber(spec, "terminationGracePeriodSeconds", 30);
  if (!spec.contains("securityContext")) spec["securityContext"] = Json::object();
  if (spec.contains("serviceAccountName")) spec["serviceAccount"] = spec["serviceAccountName"];
  defaultContainers(spec, "initContainers");
  defaultContainers(spec, "containers");
  if (!spec.contains("volumes") || !spec["volumes"].is_array()) return;
  for (Json& v : spec["volumes"]) {
    if (v.contains("hostPath")) {
      if (!v["hostPath"].contains("type")) v["hostPath"]["type"] = "";
    } else if (v.contains("configMap")) {
      setDefaultNumber(v["configMap"], "defaultMode", 420);
    } else if (v.contains("secret")) {
      setDefaultNumber(v["secret"], "defaultMode", 420);
    } else if (v.contains("projected")) {
      setDefaultNumber(v["projected"], "defaultMode", 420);
    } else if (v.contains("downwardAPI")) {
      setDefaultNumber(v["downwardAPI"], "defaultMode", 420);
    } else if (v.size() == 1) {
      v["emptyDir"] = Json::object();
    }
  }
}

void defaultWorkloadTemplate(Json& object) {
  Json& spec = object["spec"];
  if (spec.contains("template") && spec["template"].is_object()) {
    Json& podTemplate = spec["template"];
    if (!podTemplate.contains("metadata")) podTemplate["metadata"] = Json::object();
    if (!podTemplate.contains("spec") || !podTemplate["spec"].is_object()) {
      podTemplate["spec"] = Json::object();
    }
    defaultPodSpec(podTemplate["spec"]);
  }
  setDefaultNumber(spec, "revisionHistoryLimit", 10);
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
  if (spec.contains("ports") && spec["ports"].is_array()) {
    for (Json& port : spec["ports"]) {
      if (!port.is_object()) continue;
      setDefault(port, "protocol", "TCP");
      if (!port.contains("targetPort") || port["targetPort"] == 0 ||
          isEmptyString(port["targetPort"])) {
        if (port.contains("port")) port["targetPort"] = port["port"];
      }
    }
  }
  const bool external = spec["type"] == "NodePort" || spec["type"] == "LoadBalancer";
  if (external) setDefault(spec, "externalTrafficPolicy", "Cluster");
  if (emulation.atLeast(22) && spec["type"] != "ExternalName") {
    setDefault(spec, "internalTrafficPolicy", "Cluster");
  }
  if (emulation.atLeast(22) && spec["type"] == "LoadBalancer") {
    setDefaultNumber(spec, "allocateLoadBalancerNodePorts", true);
  }
  if (!object.contains("status")) object["status"] = {{"loadBalancer", Json::object()}};
}

// ---- validation

void checkPort(const Json& value, const std::string& path, std::vector<FieldError>& errors) {
  if (!value.is_number_integer() || value < 1 || value > 65535) {
    errors.push_back(invalidValue(path, value, "must be between 1 and 65535, inclusive"));
  }
}

std::vector<FieldError> validateService(const Json& object, const Json* old,
                                        const Emulation& emulation) {
  std::vector<FieldError> errors;
  const Json& spec = object["spec"];
  const std::string type = stringAt(spec, {"type"});
  const bool headless = stringAt(spec, {"clusterIP"}) == "None";
  const Json& ports = arrayAt(spec, {"ports"});
  if (ports.empty() && !headless && type != "ExternalName")
    errors.push_back(required("spec.ports"));
  if (!oneOf(type, {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"})) {
    errors.push_back(
        notSupported("spec.type", type, {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}));
  }
  if (type == "LoadBalancer" && headless) {
    errors.push_back(invalidValue("spec.clusterIPs[0]", "None",
                                  "may not be set to 'None' for LoadBalancer services"));
  }
  if (type == "NodePort" && headless) {
    errors.push_back(invalidValue("spec.clusterIPs[0]", "None",
                                  "may not be set to 'None' for NodePort services"));
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
      errors.push_back(
          {path + ".name", "FieldValueDuplicate", "Duplicate value: " + Json(name).dump()});
    }
    checkPort(port.value("port", Json(0)), path + ".port", errors);
    const std::string protocol = stringAt(port, {"protocol"});
    if (!oneOf(protocol, {"SCTP", "TCP", "UDP"})) {
      errors.push_back(notSupported(path + ".protocol", protocol, {"SCTP", "TCP", "UDP"}));
    }
    const Json target = port.value("targetPort", Json());
    if (target.is_number()) {
      checkPort(target, path + ".targetPort", errors);
    } else if (target.is_string()) {
      const std::string text = target;
      const bool shape =
          !text.empty() && text.size() <= 15 &&
          std::all_of(text.begin(), text.end(),
                      [](char c) { return isLowerAlnum(c) || c == '-'; }) &&
          std::any_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; }) &&
          text.front() != '-' && text.back() != '-' && text.find("--") == std::string::npos;
      if (!shape) {
        errors.push_back(
            invalidValue(path + ".targetPort", target,
                         "must contain only alpha-numeric characters (a-z, 0-9), and "
                         "hyphens (-), at least one letter (a-z), at most 15 characters"));
      }
    }
    if (!portKeys.insert({protocol, intAt(port, {"port"})}).second) {
      errors.push_back(
          {path, "FieldValueDuplicate",
           "Duplicate value: " + Json{{"port", port["port"]}, {"protocol", protocol}}.dump()});
    }
    if (const auto node = intAt(port, {"nodePort"}); node != 0) {
      if (type == "ClusterIP" || type == "ExternalName") {
        errors.push_back({path + ".nodePort", "FieldValueForbidden",
                          "Forbidden: may not be used when `type` is '" + type + "'"});
      } else if (!nodePorts.insert({protocol, node}).second) {
        errors.push_back({path + ".nodePort", "FieldValueDuplicate",
                          "Duplicate value: " + std::to_string(node)});
      }
    }
  }
  if (const Json* selector = at(spec, {"selector"}); selector != nullptr) {
    checkLabels(*selector, "spec.selector", errors);
  }
  const Json& externals = arrayAt(spec, {"externalIPs"});
  for (std::size_t i = 0; i < externals.size(); ++i) {
    unsigned char bytes[16];
    const std::string ip = externals[i].is_string() ? externals[i].get<std::string>() : "";
    if (inet_pton(AF_INET, ip.c_str(), bytes) != 1 && inet_pton(AF_INET6, ip.c_str(), bytes) != 1) {
      errors.push_back(
          invalidValue("spec.externalIPs[" + std::to_string(i) + "]", externals[i],
                       "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
  }
  if (const std::string policy = stringAt(spec, {"externalTrafficPolicy"}); !policy.empty()) {
    if (type != "NodePort" && type != "LoadBalancer" && externals.empty()) {
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
  if (const std::string distribution = stringAt(spec, {"trafficDistribution"});
      !distribution.empty()) {
    std::vector<std::string> allowed{"PreferClose"};
    if (emulation.atLeast(34)) allowed = {"PreferClose", "PreferSameNode", "PreferSameZone"};
    if (!oneOf(distribution, allowed)) {
      errors.push_back(notSupported("spec.trafficDistribution", distribution, allowed));
    }
  }
  if (old != nullptr && type != "ExternalName" &&
      stringAt(*old, {"spec", "type"}) != "ExternalName") {
    const std::string before = stringAt(*old, {"spec", "clusterIP"});
    const std::string after = stringAt(spec, {"clusterIP"});
    if (!before.empty() && before != after) {
      errors.push_back(invalidValue("spec.clusterIPs[0]", after, "may not change once set"));
    }
  }
  return errors;
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
  if (endpoints.size() > 1000) {
    errors.push_back(
        {"endpoints", "FieldValueTooMany",
         "Too many: " + std::to_string(endpoints.size()) + ": must have at most 1000 items"});
  }
  for (std::size_t i = 0; i < endpoints.size() && errors.size() < 20; ++i) {
    const std::string path = "endpoints[" + std::to_string(i) + "]";
    const Json& addresses = arrayAt(endpoints[i], {"addresses"});
    if (addresses.empty()) {
      errors.push_back(required(path + ".addresses", "must contain at least 1 address"));
    } else if (addresses.size() > 100) {
      errors.push_back(
          {path + ".addresses", "FieldValueTooMany",
           "Too many: " + std::to_string(addresses.size()) + ": must have at most 100 items"});
    }
    for (std::size_t j = 0; j < addresses.size(); ++j) {
      const std::string where = path + ".addresses[" + std::to_string(j) + "]";
      if (!addresses[j].is_string()) {
        errors.push_back(invalidValue(where, addresses[j], "must be a string"));
        continue;
      }
      const std::string address = addresses[j];
      unsigned char b[16];
      if (type == "IPv4" || type == "IPv6") {
        const bool v4 = type == "IPv4";
        if (inet_pton(v4 ? AF_INET : AF_INET6, address.c_str(), b) != 1) {
          errors.push_back(
              invalidValue(where, address,
                           v4 ? "must be a valid IPv4 address" : "must be a valid IPv6 address"));
          continue;
        }
        const bool unspecified =
            std::all_of(b, b + (v4 ? 4 : 16), [](unsigned char c) { return c == 0; });
        const bool loopback =
            v4 ? b[0] == 127
               : (b[15] == 1 && std::all_of(b, b + 15, [](unsigned char c) { return c == 0; }));
        const bool linkLocal =
            v4 ? (b[0] == 169 && b[1] == 254) : (b[0] == 0xfe && (b[1] & 0xc0) == 0x80);
        const bool multicast =
            v4 ? (b[0] == 224 && b[1] == 0 && b[2] == 0) : (b[0] == 0xff && (b[1] & 15) == 2);
        if (unspecified)
          errors.push_back(
              invalidValue(where, address, "may not be unspecified (" + address + ")"));
        if (loopback)
          errors.push_back(invalidValue(where, address,
                                        "may not be in the loopback range (127.0.0.0/8, ::1/128)"));
        if (linkLocal)
          errors.push_back(invalidValue(
              where, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
        if (multicast)
          errors.push_back(invalidValue(
              where, address,
              "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
      } else if (type == "FQDN") {
        if (const auto why = checkDns1123Subdomain(address); !why.empty()) {
          errors.push_back(invalidValue(where, address, why));
        }
      }
    }
  }
  const Json& ports = arrayAt(object, {"ports"});
  if (ports.size() > 20000 || (emulation.minor < 33 && ports.size() > 100)) {
    errors.push_back(
        {"ports", "FieldValueTooMany",
         "Too many: " + std::to_string(ports.size()) + ": must have at most 100 items"});
  }
  std::set<std::string> names;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::string path = "ports[" + std::to_string(i) + "]";
    const std::string name = stringAt(ports[i], {"name"});
    if (!name.empty()) {
      if (const auto why = checkDns1123Label(name); !why.empty())
        errors.push_back(invalidValue(path + ".name", name, why));
    }
    if (!names.insert(name).second)
      errors.push_back(
          {path + ".name", "FieldValueDuplicate", "Duplicate value: " + Json(name).dump()});
    const std::string protocol = stringAt(ports[i], {"protocol"});
    if (!oneOf(protocol, {"SCTP", "TCP", "UDP"}))
      errors.push_back(notSupported(path + ".protocol", protocol, {"SCTP", "TCP", "UDP"}));
    if (const Json* number = at(ports[i], {"port"})) checkPort(*number, path + ".port", errors);
  }
  return errors;
}

void checkPodSpec(const Json& spec, const std::string& path, std::vector<FieldError>& errors) {
  const Json& containers = arrayAt(spec, {"containers"});
  if (containers.empty()) errors.push_back(required(path + ".containers"));
  std::set<std::string> volumes;
  const Json& volumeList = arrayAt(spec, {"volumes"});
  for (std::size_t i = 0; i < volumeList.size(); ++i) {
    const std::string where = path + ".volumes[" + std::to_string(i) + "].name";
    const std::string name = stringAt(volumeList[i], {"name"});
    if (const auto why = checkDns1123Label(name); !why.empty())
      errors.push_back(invalidValue(where, name, why));
    if (!volumes.insert(name).second)
      errors.push_back({where, "FieldValueDuplicate", "Duplicate value: " + Json(name).dump()});
  }
  std::set<std::string> names;
  for (const char* field : {"initContainers", "containers"}) {
    const Json& list = arrayAt(spec, {field});
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string where = path + "." + field + "[" + std::to_string(i) + "]";
      const std::string name = stringAt(list[i], {"name"});
      if (name.empty()) {
        errors.push_back(required(where + ".name"));
      } else if (const auto why = checkDns1123Label(name); !why.empty()) {
        errors.push_back(invalidValue(where + ".name", name, why));
      } else if (!names.insert(name).second) {
        errors.push_back(
            {where + ".name", "FieldValueDuplicate", "Duplicate value: " + Json(name).dump()});
      }
      if (stringAt(list[i], {"image"}).empty()) errors.push_back(required(where + ".image"));
      const std::string pull = stringAt(list[i], {"imagePullPolicy"});
      if (!oneOf(pull, {"Always", "IfNotPresent", "Never"})) {
        errors.push_back(
            notSupported(where + ".imagePullPolicy", pull, {"Always", "IfNotPresent", "Never"}));
      }
      const Json& mounts = arrayAt(list[i], {"volumeMounts"});
      for (std::size_t j = 0; j < mounts.size(); ++j) {
        const std::string mount = stringAt(mounts[j], {"name"});
        if (!volumes.contains(mount)) {
          errors.push_back({where + ".volumeMounts[" + std::to_string(j) + "].name",
                            "FieldValueNotFound", "Not found: " + Json(mount).dump()});
        }
      }
      const Json& ports = arrayAt(list[i], {"ports"});
      for (std::size_t j = 0; j < ports.size(); ++j) {
        const std::string p = where + ".ports[" + std::to_string(j) + "]";
        checkPort(ports[j].value("containerPort", Json(0)), p + ".containerPort", errors);
        if (const Json* host = at(ports[j], {"hostPort"}); host != nullptr && *host != 0) {
          checkPort(*host, p + ".hostPort", errors);
          if (spec.value("hostNetwork", false) &&
              *host != ports[j].value("containerPort", Json(0))) {
            errors.push_back(invalidValue(p + ".containerPort", ports[j]["containerPort"],
                                          "must match `hostPort` when `hostNetwork` is true"));
          }
        }
      }
    }
  }
  const std::string restart = stringAt(spec, {"restartPolicy"});
  if (!oneOf(restart, {"Always", "OnFailure", "Never"})) {
    errors.push_back(
        notSupported(path + ".restartPolicy", restart, {"Always", "OnFailure", "Never"}));
  }
  const std::string dns = stringAt(spec, {"dnsPolicy"});
  if (!oneOf(dns, {"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"})) {
    errors.push_back(notSupported(path + ".dnsPolicy", dns,
                                  {"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"}));
  }
}

std::vector<FieldError> validateWorkload(const Json& object, const Json* old) {
  std::vector<FieldError> errors;
  const Json* selector = at(object, {"spec", "selector"});
  if (selector == nullptr) {
    errors.push_back(required("spec.selector"));
  } else {
    const Json* labels = at(object, {"spec", "template", "metadata", "labels"});
    if (const Json* match = at(*selector, {"matchLabels"})) {
      for (const auto& [key, value] : match->items()) {
        const Json* label = labels == nullptr ? nullptr : at(*labels, {key.c_str()});
        if (label == nullptr || *label != value) {
          errors.push_back(invalidValue("spec.template.metadata.labels",
                                        labels == nullptr ? Json::object() : *labels,
                                        "`selector` does not match template `labels`"));
          break;
        }
      }
    }
    if (old != nullptr && *selector != (*old)["spec"]["selector"]) {
      errors.push_back(invalidValue("spec.selector", *selector, "field is immutable"));
    }
  }
  if (const Json* spec = at(object, {"spec", "template", "spec"})) {
    checkPodSpec(*spec, "spec.template.spec", errors);
    if (const auto restart = stringAt(*spec, {"restartPolicy"}); restart != "Always") {
      errors.push_back(notSupported("spec.template.spec.restartPolicy", restart, {"Always"}));
    }
  }
  return errors;
}

std::vector<FieldError> validateKeys(const Json& object, std::initializer_list<const char*> maps) {
  std::vector<FieldError> errors;
  for (const char* map : maps) {
    const Json* data = at(object, {map});
    if (data == nullptr || !data->is_object()) continue;
    for (const auto& [key, value] : data->items()) {
      const bool good = !key.empty() && key.size() <= 253 && key != "." && !key.starts_with("..") &&
                        std::all_of(key.begin(), key.end(), [](char c) {
                          return isAlnum(c) || c == '-' || c == '_' || c == '.';
                        });
      if (!good) {
        errors.push_back(
            invalidValue(std::string(map) + "[" + key + "]", key,
                         "a valid config key must consist of alphanumeric characters, "
                         "'-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
                         "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"));
      }
    }
  }
  return errors;
}

std::string base64Encode(const std::string& in) {
  static constexpr char kAlphabet[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < in.size(); i += 3) {
    std::uint32_t n = static_cast<unsigned char>(in[i]) << 16;
    if (i + 1 < in.size()) n |= static_cast<unsigned char>(in[i + 1]) << 8;
    if (i + 2 < in.size()) n |= static_cast<unsigned char>(in[i + 2]);
    out += kAlphabet[n >> 18];
    out += kAlphabet[(n >> 12) & 63];
    out += i + 1 < in.size() ? kAlphabet[(n >> 6) & 63] : '=';
    out += i + 2 < in.size() ? kAlphabet[n & 63] : '=';
  }
  return out;
}

struct Builder {
  const SchemaProvider& schemas;
  const Emulation& emulation;

  ResourceType make(const std::string& group, const std::string& version, const std::string& plural,
                    const std::string& kind, bool namespaced,
                    std::vector<std::string> shortNames = {},
                    const std::string& schema = "") const {
    ResourceType type;
    type.group = group;
    type.version = version;
    type.storageVersion = version;
    type.plural = plural;
    type.kind = kind;
    type.listKind = kind + "List";
    type.singular = kind;
    std::transform(type.singular.begin(), type.singular.end(), type.singular.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    type.namespaced = namespaced;
    type.shortNames = std::move(shortNames);
    type.openApiSchema = builtinSchema(schema.empty() ? kind : schema, emulation);
    type.schema = schemas.compile(type.openApiSchema);
    type.hasStatus = type.openApiSchema["properties"].contains("status");
    type.columns = {kName, kAge};
    type.columns[1].name = "Age";
    type.cells = [](const Json& object, Clock::time_point now) -> Cells {
      return {nameOf(object), age(object, now)};
    };
    return type;
  }
};

void indexFields(ResourceType& type, Store& store, std::vector<std::string> fields) {
  type.selectableFields = fields;
  std::vector<std::vector<std::string>> paths;
  for (const std::string& field : fields) {
    std::vector<std::string> path;
    std::size_t start = 0;
    while (start <= field.size()) {
      const auto dot = std::min(field.find('.', start), field.size());
      path.push_back(field.substr(start, dot - start));
      start = dot + 1;
    }
    paths.push_back(std::move(path));
  }
  store.setFieldIndexer(type.storeName(), [fields = std::move(fields), paths](const Json& object) {
    std::vector<std::pair<std::string, std::string>> values;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const Json* value = &object;
      for (const std::string& name : paths[i]) {
        const auto found = value->is_object() ? value->find(name) : value->end();
        if (!value->is_object() || found == value->end()) {
          value = nullptr;
          break;
        }
        value = &*found;
      }
      std::string text;
      if (value != nullptr) text = value->is_string() ? value->get<std::string>() : value->dump();
      if (text.empty() && fields[i] == "spec.unschedulable") text = "false";
      values.emplace_back(fields[i], std::move(text));
    }
    return values;
  });
}

}  // namespace

std::string checkDns1123Label(std::string_view name) {
  static const std::string text =
      "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
      "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
      "used "
      "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
  if (name.size() > 63) return "must be no more than 63 characters";
  if (name.empty() || !isLowerAlnum(name.front()) || !isLowerAlnum(name.back()) ||
      !std::all_of(name.begin(), name.end(), [](char c) { return isLowerAlnum(c) || c == '-'; })) {
    return text;
  }
  return {};
}

std::string checkDns1123Subdomain(std::string_view name) {
  static const std::string text =
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
      "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
      "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
  if (name.size() > 253) return "must be no more than 253 characters";
  if (name.empty()) return text;
  while (true) {
    const auto dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || !isLowerAlnum(label.front()) || !isLowerAlnum(label.back()) ||
        !std::all_of(label.begin(), label.end(),
                     [](char c) { return isLowerAlnum(c) || c == '-'; })) {
      return text;
    }
    if (dot == std::string_view::npos) return {};
    name.remove_prefix(dot + 1);
  }
}

std::string checkDns1035Label(std::string_view name) {
  if (name.size() > 63) return "must be no more than 63 characters";
  if (name.empty() || name.front() < 'a' || name.front() > 'z' || !isLowerAlnum(name.back()) ||
      !std::all_of(name.begin(), name.end(), [](char c) { return isLowerAlnum(c) || c == '-'; })) {
    return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with "
           "an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
           "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
  }
  return {};
}

std::string checkQualifiedName(std::string_view name) {
  const auto slash = name.find('/');
  std::string_view part = name;
  if (slash != std::string_view::npos) {
    const auto why = checkDns1123Subdomain(name.substr(0, slash));
    if (!why.empty()) return "prefix part " + why;
    part = name.substr(slash + 1);
  }
  if (part.empty()) return "name part must be non-empty";
  if (part.size() > 63) return "name part must be no more than 63 characters";
  if (!isAlnum(part.front()) || !isAlnum(part.back()) ||
      !std::all_of(part.begin(), part.end(),
                   [](char c) { return isAlnum(c) || c == '-' || c == '_' || c == '.'; })) {
    return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and "
           "end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex "
           "used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
  }
  return {};
}

void checkLabels(const Json& labels, const std::string& path, std::vector<FieldError>& errors) {
  if (!labels.is_object()) return;
  for (const auto& [key, value] : labels.items()) {
    if (const auto why = checkQualifiedName(key); !why.empty()) {
      errors.push_back(invalidValue(path, key, why));
    }
    if (!value.is_string()) {
      errors.push_back(invalidValue(path, value, "must be a string"));
      continue;
    }
    const std::string text = value;
    if (text.empty()) continue;
    if (text.size() > 63) {
      errors.push_back(invalidValue(path, text, "must be no more than 63 characters"));
    } else if (!isAlnum(text.front()) || !isAlnum(text.back()) ||
               !std::all_of(text.begin(), text.end(), [](char c) {
                 return isAlnum(c) || c == '-' || c == '_' || c == '.';
               })) {
      errors.push_back(invalidValue(
          path, text,
          "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' "
          "or "
          "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
          "'my_value',  or '12345', regex used for validation is "
          "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"));
    }
  }
}

void registerBuiltinTypes(Registry& registry, Store& store, const SchemaProvider& schemas,
                          const Emulation& emulation,
                          const std::function<void(ResourceType&)>& installAllocation) {
  const Builder build{schemas, emulation};
  const auto count = [](std::initializer_list<const char*> path) {
    std::vector<const char*> names(path);
    return [names](const Json& object) -> Json {
      const Json* value = &object;
      for (const char* name : names) {
        if (!value->is_object() || !value->contains(name)) return 0;
        value = &(*value)[name];
      }
      return value->size();
    };
  };

  ResourceType namespaces = build.make("", "v1", "namespaces", "Namespace", false, {"ns"});
  namespaces.columns = {kName, column("Status"), kAge};
  namespaces.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), stringAt(o, {"status", "phase"}), age(o, now)};
  };
  namespaces.prepareForCreate = [](Json& o, const RequestInfo&) {
    o["status"] = {{"phase", "Active"}};
    o["spec"] = {{"finalizers", {"kubernetes"}}};
    o["metadata"]["labels"]["kubernetes.io/metadata.name"] = o["metadata"].value("name", "");
  };
  namespaces.prepareForUpdate = [](Json& o, const Json& old, const RequestInfo& info) {
    if (info.subresource != "finalize") o["spec"] = old.value("spec", Json::object());
  };
  indexFields(namespaces, store, {"status.phase"});
  registry.add(std::move(namespaces));

  ResourceType nodes = build.make("", "v1", "nodes", "Node", false, {"no"});
  nodes.columns = {kName,
                   column("Status"),
                   column("Roles"),
                   kAge,
                   column("Version"),
                   column("Internal-IP", "string", 1),
                   column("External-IP", "string", 1),
                   column("OS-Image", "string", 1),
                   column("Kernel-Version", "string", 1),
                   column("Container-Runtime", "string", 1)};
  nodes.cells = nodeCells;
  indexFields(nodes, store, {"spec.unschedulable"});
  registry.add(std::move(nodes));

  ResourceType pods = build.make("", "v1", "pods", "Pod", true, {"po"});
  pods.categories = {"all"};
  pods.columns = {kName,
                  column("Ready"),
                  column("Status"),
                  column("Restarts"),
                  kAge,
                  column("IP", "string", 1),
                  column("Node", "string", 1),
                  column("Nominated Node", "string", 1),
                  column("Readiness Gates", "string", 1)};
  pods.cells = podCells;
  pods.prepareForCreate = [&store](Json& o, const RequestInfo&) {
    o["status"] = {{"phase", "Pending"}};
    admitPod(o, store);
  };
  pods.applyDefaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) o["spec"] = Json::object();
    setDefaultNumber(o["spec"], "enableServiceLinks", true);
    setDefault(o["spec"], "serviceAccountName", "default");
    defaultPodSpec(o["spec"]);
  };
  pods.validate = [](const Json& o, const Json* old, const RequestInfo& info) {
    std::vector<FieldError> errors;
    if (info.subresource == "status") return errors;
    checkPodSpec(o["spec"], "spec", errors);
    if (old != nullptr) {
      // What may change: images, activeDeadlineSeconds, added tolerations.
      Json a = o["spec"];
      Json b = (*old)["spec"];
      for (Json* spec : {&a, &b}) {
        for (const char* field : {"containers", "initContainers"}) {
          if (spec->contains(field)) {
            for (Json& c : (*spec)[field])
              c.erase("image");
          }
        }
        spec->erase("activeDeadlineSeconds");
        spec->erase("tolerations");
        spec->erase("terminationGracePeriodSeconds");
        spec->erase("schedulingGates");
      }
      if (a != b) {
        errors.push_back(
            {"spec", "FieldValueForbidden",
             "Forbidden: pod updates may not change fields other than "
             "`spec.containers[*].image`,`spec.initContainers[*].image`,"
             "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
             "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be "
             "set to 1 if it was previously negative)"});
      }
    }
    return errors;
  };
  indexFields(
      pods, store,
      {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
       "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"});
  registry.add(std::move(pods));

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
  services.prepareForUpdate = [](Json& o, const Json& old, const RequestInfo& info) {
    if (info.subresource == "status" || !o.contains("spec") || !o["spec"].is_object()) return;
    // An update that leaves out what the server gave keeps it.
    Json& spec = o["spec"];
    const Json& before = old["spec"];
    const std::string type = spec.value("type", "ClusterIP");
    if (type == "ExternalName") return;
    for (const char* field : {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}) {
      if (!spec.contains(field) && before.contains(field)) spec[field] = before[field];
    }
    const bool wantsPorts = type == "NodePort" || type == "LoadBalancer";
    if (wantsPorts && spec.contains("ports") && spec["ports"].is_array()) {
      for (Json& port : spec["ports"]) {
        if (!port.is_object() || port.contains("nodePort")) continue;
        for (const Json& was : arrayAt(before, {"ports"})) {
          if (was.contains("nodePort") && was["port"] == port.value("port", Json()) &&
              was.value("protocol", "TCP") == port.value("protocol", "TCP")) {
            port["nodePort"] = was["nodePort"];
          }
        }
      }
    } else if (!wantsPorts && (before.value("type", "") == "NodePort" ||
                               before.value("type", "") == "LoadBalancer")) {
      if (spec.contains("ports") && spec["ports"].is_array()) {
        for (Json& port : spec["ports"]) {
          for (const Json& was : arrayAt(before, {"ports"})) {
            if (port.value("nodePort", 0) != 0 &&
                port.value("nodePort", 0) == was.value("nodePort", 0)) {
              port.erase("nodePort");
            }
          }
        }
      }
      if (spec.value("externalTrafficPolicy", "") == before.value("externalTrafficPolicy", "")) {
        spec.erase("externalTrafficPolicy");
      }
      spec.erase("allocateLoadBalancerNodePorts");
    }
    if (spec.value("healthCheckNodePort", 0) == 0 && before.contains("healthCheckNodePort") &&
        type == "LoadBalancer" && spec.value("externalTrafficPolicy", "") == "Local") {
      spec["healthCheckNodePort"] = before["healthCheckNodePort"];
    }
  };
  services.applyDefaults = [emulation](Json& o) { defaultService(o, emulation); };
  services.validate = [emulation](const Json& o, const Json* old, const RequestInfo& info) {
    if (info.subresource == "status") return std::vector<FieldError>();
    std::vector<FieldError> errors = validateService(o, old, emulation);
    if (const auto why = checkDns1035Label(nameOf(o));
        old == nullptr && !why.empty() && !emulation.atLeast(36)) {
      errors.insert(errors.begin(), invalidValue("metadata.name", nameOf(o), why));
    }
    return errors;
  };
  indexFields(services, store, {"spec.clusterIP", "spec.type"});
  if (installAllocation) installAllocation(services);
  registry.add(std::move(services));

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
  registry.add(std::move(endpoints));

  ResourceType configMaps = build.make("", "v1", "configmaps", "ConfigMap", true, {"cm"});
  configMaps.columns = {kName, column("Data"), kAge};
  configMaps.cells = [data = count({"data"}), binary = count({"binaryData"})](
                         const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), std::to_string(data(o).get<int>() + binary(o).get<int>()), age(o, now)};
  };
  configMaps.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    auto errors = validateKeys(o, {"data", "binaryData"});
    if (old != nullptr && old->value("immutable", false) &&
        (o.value("data", Json()) != old->value("data", Json()) || !o.value("immutable", false))) {
      errors.push_back(
          {"data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"});
    }
    return errors;
  };
  registry.add(std::move(configMaps));

  ResourceType secrets = build.make("", "v1", "secrets", "Secret", true);
  secrets.columns = {kName, column("Type"), column("Data"), kAge};
  secrets.cells = [data = count({"data"})](const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), stringAt(o, {"type"}), std::to_string(data(o).get<int>()), age(o, now)};
  };
  secrets.applyDefaults = [](Json& o) {
    setDefault(o, "type", "Opaque");
    if (o.contains("stringData") && o["stringData"].is_object()) {
      for (const auto& [key, value] : o["stringData"].items()) {
        if (value.is_string()) o["data"][key] = base64Encode(value.get<std::string>());
      }
      o.erase("stringData");
    }
  };
  secrets.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    auto errors = validateKeys(o, {"data"});
    if (old != nullptr && old->value("type", "") != o.value("type", "")) {
      errors.push_back(invalidValue("type", o.value("type", ""), "field is immutable"));
    }
    return errors;
  };
  indexFields(secrets, store, {"type"});
  registry.add(std::move(secrets));

  ResourceType accounts = build.make("", "v1", "serviceaccounts", "ServiceAccount", true, {"sa"});
  if (emulation.atLeast(34)) {
    accounts.columns = {kName, kAge};
  } else {
    accounts.columns = {kName, column("Secrets"), kAge};
    accounts.cells = [secretsOf = count({"secrets"})](const Json& o,
                                                      Clock::time_point now) -> Cells {
      return {nameOf(o), std::to_string(secretsOf(o).get<int>()), age(o, now)};
    };
  }
  registry.add(std::move(accounts));

  const std::vector<TableColumn> eventColumns = {{"Last Seen", "string", "", "lastTimestamp", 0},
                                                 column("Type"),
                                                 column("Reason"),
                                                 column("Object"),
                                                 column("Subobject", "string", 1),
                                                 column("Source", "string", 1),
                                                 column("Message"),
                                                 column("First Seen", "string", 1),
                                                 column("Count", "string", 1),
                                                 {"Name", "string", "name", "Name", 1}};
  ResourceType events = build.make("", "v1", "events", "Event", true, {"ev"});
  events.columns = eventColumns;
  events.cells = eventCells;
  indexFields(events, store,
              {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
               "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
               "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"});
  registry.add(std::move(events));

  ResourceType eventsV1 =
      build.make("events.k8s.io", "v1", "events", "Event", true, {"ev"}, "EventV1");
  eventsV1.columns = eventColumns;
  eventsV1.cells = eventCells;
  indexFields(eventsV1, store,
              {"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "reason",
               "reportingController", "type"});
  registry.add(std::move(eventsV1));

  const bool v1Slices = emulation.atLeast(21);
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
  slices.validate = [emulation](const Json& o, const Json* old, const RequestInfo&) {
    return validateEndpointSlice(o, old, emulation);
  };
  registry.add(std::move(slices));

  ResourceType daemonSets = build.make("apps", "v1", "daemonsets", "DaemonSet", true, {"ds"});
  daemonSets.categories = {"all"};
  daemonSets.generations = true;
  daemonSets.columns = {kName,
                        column("Desired", "integer"),
                        column("Current", "integer"),
                        column("Ready", "integer"),
                        column("Up-to-date", "integer"),
                        column("Available", "integer"),
                        column("Node Selector"),
                        kAge,
                        column("Containers", "string", 1),
                        column("Images", "string", 1),
                        column("Selector", "string", 1)};
  daemonSets.cells = daemonSetCells;
  daemonSets.prepareForCreate = [](Json& o, const RequestInfo&) {
    o["status"] = {{"currentNumberScheduled", 0},
                   {"numberMisscheduled", 0},
                   {"desiredNumberScheduled", 0},
                   {"numberReady", 0}};
  };
  daemonSets.applyDefaults = [emulation](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    defaultWorkloadTemplate(o);
    Json& strategy = o["spec"]["updateStrategy"];
    if (strategy.is_null()) strategy = Json::object();
    setDefault(strategy, "type", "RollingUpdate");
    if (strategy["type"] == "RollingUpdate") {
      Json& rolling = strategy["rollingUpdate"];
      if (rolling.is_null()) rolling = Json::object();
      setDefaultNumber(rolling, "maxUnavailable", 1);
      if (emulation.atLeast(22)) setDefaultNumber(rolling, "maxSurge", 0);
    }
    Json& annotations = o["metadata"]["annotations"];
    if (annotations.is_null()) annotations = Json::object();
    setDefault(annotations, "deprecated.daemonset.template.generation", "1");
  };
  daemonSets.prepareForUpdate = [](Json& o, const Json& old, const RequestInfo&) {
    const std::string was =
        stringAt(old, {"metadata", "annotations", "deprecated.daemonset.template.generation"});
    if (!was.empty() && !o["metadata"]
                             .value("annotations", Json::object())
                             .contains("deprecated.daemonset.template.generation")) {
      o["metadata"]["annotations"]["deprecated.daemonset.template.generation"] = was;
    }
  };
  daemonSets.validate = [](const Json& o, const Json* old, const RequestInfo& info) {
    return info.subresource == "status" ? std::vector<FieldError>() : validateWorkload(o, old);
  };
  registry.add(std::move(daemonSets));

  ResourceType deployments =
      build.make("apps", "v1", "deployments", "Deployment", true, {"deploy"});
  deployments.categories = {"all"};
  deployments.generations = true;
  deployments.columns = {kName,
                         column("Ready"),
                         column("Up-to-date"),
                         column("Available"),
                         kAge,
                         column("Containers", "string", 1),
                         column("Images", "string", 1),
                         column("Selector", "string", 1)};
  deployments.cells = deploymentCells;
  deployments.prepareForCreate = [](Json& o, const RequestInfo&) { o["status"] = Json::object(); };
  deployments.applyDefaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    defaultWorkloadTemplate(o);
    Json& spec = o["spec"];
    setDefaultNumber(spec, "replicas", 1);
    setDefaultNumber(spec, "progressDeadlineSeconds", 600);
    Json& strategy = spec["strategy"];
    if (strategy.is_null()) strategy = Json::object();
    setDefault(strategy, "type", "RollingUpdate");
    if (strategy["type"] == "RollingUpdate") {
      Json& rolling = strategy["rollingUpdate"];
      if (rolling.is_null()) rolling = Json::object();
      setDefaultNumber(rolling, "maxUnavailable", "25%");
      setDefaultNumber(rolling, "maxSurge", "25%");
    }
  };
  deployments.validate = [](const Json& o, const Json* old, const RequestInfo& info) {
    return info.subresource == "status" ? std::vector<FieldError>() : validateWorkload(o, old);
  };
  registry.add(std::move(deployments));

  ResourceType replicaSets = build.make("apps", "v1", "replicasets", "ReplicaSet", true, {"rs"});
  replicaSets.categories = {"all"};
  replicaSets.generations = true;
  replicaSets.columns = {kName,
                         column("Desired", "integer"),
                         column("Current", "integer"),
                         column("Ready", "integer"),
                         kAge,
                         column("Containers", "string", 1),
                         column("Images", "string", 1),
                         column("Selector", "string", 1)};
  replicaSets.cells = [](const Json& o, Clock::time_point now) -> Cells {
    Cells cells{nameOf(o), intAt(o, {"spec", "replicas"}), intAt(o, {"status", "replicas"}),
                intAt(o, {"status", "readyReplicas"}), age(o, now)};
    workloadWide(o, cells);
    return cells;
  };
  replicaSets.prepareForCreate = [](Json& o, const RequestInfo&) {
    o["status"] = {{"replicas", 0}};
  };
  replicaSets.applyDefaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    Json& spec = o["spec"];
    setDefaultNumber(spec, "replicas", 1);
    if (spec.contains("template") && spec["template"].is_object() &&
        spec["template"].contains("spec") && spec["template"]["spec"].is_object()) {
      defaultPodSpec(spec["template"]["spec"]);
    }
  };
  replicaSets.validate = [](const Json& o, const Json* old, const RequestInfo& info) {
    return info.subresource == "status" ? std::vector<FieldError>() : validateWorkload(o, old);
  };
  registry.add(std::move(replicaSets));

  ResourceType revisions =
      build.make("apps", "v1", "controllerrevisions", "ControllerRevision", true);
  revisions.columns = {kName, column("Controller"), column("Revision", "integer"), kAge};
  revisions.cells = [](const Json& o, Clock::time_point now) -> Cells {
    std::string controller = "<none>";
    if (const Json* owners = at(o, {"metadata", "ownerReferences"}); owners != nullptr) {
      for (const Json& owner : *owners) {
        if (!owner.value("controller", false)) continue;
        // kubectl's printer: kind.group/name.
        const std::string version = owner.value("apiVersion", "");
        const size_t slash = version.find('/');
        std::string kind = owner.value("kind", "");
        std::transform(kind.begin(), kind.end(), kind.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        controller = kind + (slash == std::string::npos ? "" : "." + version.substr(0, slash)) +
                     "/" + owner.value("name", "");
      }
    }
    const Json* revision = at(o, {"revision"});
    return {nameOf(o), controller, revision != nullptr ? *revision : Json(0), age(o, now)};
  };
  revisions.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    std::vector<FieldError> errors;
    if (const Json* number = at(o, {"revision"}); number != nullptr && *number < 0) {
      errors.push_back(invalidValue("revision", *number, "must be greater than or equal to 0"));
    }
    if (old != nullptr && at(*old, {"data"}) != nullptr &&
        (at(o, {"data"}) == nullptr || *at(o, {"data"}) != *at(*old, {"data"}))) {
      errors.push_back(invalidValue("data", "", "field is immutable"));
    }
    return errors;
  };
  registry.add(std::move(revisions));

  ResourceType leases = build.make("coordination.k8s.io", "v1", "leases", "Lease", true);
  leases.columns = {kName, column("Holder"), kAge};
  leases.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), stringAt(o, {"spec", "holderIdentity"}), age(o, now)};
  };
  leases.validate = [](const Json& o, const Json*, const RequestInfo&) {
    std::vector<FieldError> errors;
    if (const Json* d = at(o, {"spec", "leaseDurationSeconds"}); d != nullptr && *d <= 0) {
      errors.push_back(invalidValue("spec.leaseDurationSeconds", *d, "must be greater than 0"));
    }
    if (const Json* t = at(o, {"spec", "leaseTransitions"}); t != nullptr && *t < 0) {
      errors.push_back(
          invalidValue("spec.leaseTransitions", *t, "must be greater than or equal to 0"));
    }
    return errors;
  };
  registry.add(std::move(leases));

  const std::string rbac = "rbac.authorization.k8s.io";
  for (const auto& [plural, kind, namespaced] :
       {std::tuple{"roles", "Role", true}, std::tuple{"clusterroles", "ClusterRole", false}}) {
    ResourceType roles = build.make(rbac, "v1", plural, kind, namespaced);
    roles.columns = {kName, {"Created At", "date", "", "Created At", 0}};
    roles.cells = [](const Json& o, Clock::time_point) -> Cells {
      return {nameOf(o), stringAt(o, {"metadata", "creationTimestamp"})};
    };
    roles.validate = [namespaced = namespaced](const Json& o, const Json*, const RequestInfo&) {
      std::vector<FieldError> errors;
      const Json& rules = arrayAt(o, {"rules"});
      for (std::size_t i = 0; i < rules.size(); ++i) {
        const std::string path = "rules[" + std::to_string(i) + "]";
        if (arrayAt(rules[i], {"verbs"}).empty()) {
          errors.push_back(required(path + ".verbs", "verbs must contain at least one value"));
        }
        if (!arrayAt(rules[i], {"nonResourceURLs"}).empty()) {
          if (namespaced) {
            errors.push_back(invalidValue(path + ".nonResourceURLs", rules[i]["nonResourceURLs"],
                                          "namespaced rules cannot apply to non-resource URLs"));
          }
          continue;
        }
        if (arrayAt(rules[i], {"apiGroups"}).empty()) {
          errors.push_back(
              required(path + ".apiGroups", "resource rules must supply at least one api group"));
        }
        if (arrayAt(rules[i], {"resources"}).empty()) {
          errors.push_back(
              required(path + ".resources", "resource rules must supply at least one resource"));
        }
      }
      return errors;
    };
    registry.add(std::move(roles));
  }
  for (const auto& [plural, kind, namespaced] :
       {std::tuple{"rolebindings", "RoleBinding", true},
        std::tuple{"clusterrolebindings", "ClusterRoleBinding", false}}) {
    ResourceType bindings = build.make(rbac, "v1", plural, kind, namespaced);
    bindings.columns = {kName,
                        column("Role"),
                        kAge,
                        column("Users", "string", 1),
                        column("Groups", "string", 1),
                        column("ServiceAccounts", "string", 1)};
    bindings.cells = [](const Json& o, Clock::time_point now) -> Cells {
      std::vector<std::string> users;
      std::vector<std::string> groups;
      std::vector<std::string> serviceAccounts;
      for (const Json& s : arrayAt(o, {"subjects"})) {
        const std::string subjectKind = stringAt(s, {"kind"});
        if (subjectKind == "User") users.push_back(stringAt(s, {"name"}));
        if (subjectKind == "Group") groups.push_back(stringAt(s, {"name"}));
        if (subjectKind == "ServiceAccount") {
          serviceAccounts.push_back(stringAt(s, {"namespace"}) + "/" + stringAt(s, {"name"}));
        }
      }
      return {nameOf(o),
              stringAt(o, {"roleRef", "kind"}) + "/" + stringAt(o, {"roleRef", "name"}),
              age(o, now),
              join(users, ", "),
              join(groups, ", "),
              join(serviceAccounts, ", ")};
    };
    bindings.applyDefaults = [](Json& o) {
      if (o.contains("roleRef") && o["roleRef"].is_object()) {
        setDefault(o["roleRef"], "apiGroup", "rbac.authorization.k8s.io");
      }
      if (!o.contains("subjects") || !o["subjects"].is_array()) return;
      for (Json& s : o["subjects"]) {
        if (!s.is_object() || s.contains("apiGroup")) continue;
        if (s.value("kind", "") != "ServiceAccount") s["apiGroup"] = "rbac.authorization.k8s.io";
      }
    };
    bindings.validate = [namespaced = namespaced](const Json& o, const Json* old,
                                                  const RequestInfo&) {
      std::vector<FieldError> errors;
      const std::string roleKind = stringAt(o, {"roleRef", "kind"});
      const std::vector<std::string> kinds = namespaced
                                                 ? std::vector<std::string>{"Role", "ClusterRole"}
                                                 : std::vector<std::string>{"ClusterRole"};
      if (!oneOf(roleKind, kinds)) errors.push_back(notSupported("roleRef.kind", roleKind, kinds));
      if (stringAt(o, {"roleRef", "name"}).empty()) errors.push_back(required("roleRef.name"));
      const Json& subjects = arrayAt(o, {"subjects"});
      for (std::size_t i = 0; i < subjects.size(); ++i) {
        const std::string path = "subjects[" + std::to_string(i) + "]";
        const std::string subjectKind = stringAt(subjects[i], {"kind"});
        if (!oneOf(subjectKind, {"ServiceAccount", "User", "Group"})) {
          errors.push_back(
              notSupported(path + ".kind", subjectKind, {"Group", "ServiceAccount", "User"}));
        }
        if (stringAt(subjects[i], {"name"}).empty()) errors.push_back(required(path + ".name"));
        if (subjectKind == "ServiceAccount" && !namespaced &&
            stringAt(subjects[i], {"namespace"}).empty()) {
          errors.push_back(required(path + ".namespace"));
        }
      }
      if (old != nullptr && (*old)["roleRef"] != o["roleRef"]) {
        errors.push_back(invalidValue("roleRef", o["roleRef"], "cannot change roleRef"));
      }
      return errors;
    };
    registry.add(std::move(bindings));
  }

  ResourceType priorities =
      build.make("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", false, {"pc"});
  priorities.columns = {kName, column("Value", "integer"), column("Global-Default", "boolean"),
                        kAge};
  priorities.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), intAt(o, {"value"}), o.value("globalDefault", false), age(o, now)};
  };
  priorities.applyDefaults = [](Json& o) {
    setDefault(o, "preemptionPolicy", "PreemptLowerPriority");
  };
  registry.add(std::move(priorities));

  // Kept, not enforced: nothing here limits what a namespace may have.
  registry.add(build.make("", "v1", "resourcequotas", "ResourceQuota", true, {"quota"}));

  if (emulation.atLeast(30)) {
    const std::string group = "admissionregistration.k8s.io";
    ResourceType policies =
        build.make(group, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", false);
    policies.generations = true;
    registry.add(std::move(policies));
    registry.add(build.make(group, "v1", "validatingadmissionpolicybindings",
                            "ValidatingAdmissionPolicyBinding", false));
  }

  if (emulation.atLeast(21)) {
    ResourceType budgets =
        build.make("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, {"pdb"});
    budgets.generations = true;
    budgets.columns = {kName, column("Min Available"), column("Max Unavailable"),
                       column("Allowed Disruptions", "integer"), kAge};
    budgets.cells = [](const Json& o, Clock::time_point now) -> Cells {
      const auto text = [&](const char* field) -> std::string {
        const Json* v = at(o, {"spec", field});
        return v == nullptr ? "N/A" : v->is_string() ? v->get<std::string>() : v->dump();
      };
      return {nameOf(o), text("minAvailable"), text("maxUnavailable"),
              intAt(o, {"status", "disruptionsAllowed"}), age(o, now)};
    };
    registry.add(std::move(budgets));
  }

  ResourceType crds = build.make("apiextensions.k8s.io", "v1", "customresourcedefinitions",
                                 "CustomResourceDefinition", false, {"crd", "crds"});
  crds.categories = {"api-extensions"};
  crds.generations = true;
  crds.columns = {kName, {"Created At", "date", "", "Created At", 0}};
  crds.cells = [](const Json& o, Clock::time_point) -> Cells {
    return {nameOf(o), stringAt(o, {"metadata", "creationTimestamp"})};
  };
  registry.add(std::move(crds));
}

}  // namespace pointsman::e2e
