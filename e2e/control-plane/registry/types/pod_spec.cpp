#include "e2e/control-plane/registry/types/pod_spec.h"

#include <set>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/type_builder.h"

namespace pointsman::e2e {
namespace {

std::string pullPolicyOf(const std::string& image) {
  const auto slash = image.rfind('/');
  const std::string last = slash == std::string::npos ? image : image.substr(slash + 1);
  const auto colon = last.find(':');
  const bool latest = last.find('@') == std::string::npos &&
                      (colon == std::string::npos || last.substr(colon + 1) == "latest");
  return latest ? "Always" : "IfNotPresent";
}

void defaultProbe(Json& probe) {
  setDefaultNumber(probe, "timeoutSeconds", 1);
  setDefaultNumber(probe, "periodSeconds", 10);
  setDefaultNumber(probe, "successThreshold", 1);
  setDefaultNumber(probe, "failureThreshold", 3);
  if (!probe.contains("httpGet")) return;
  setDefault(probe["httpGet"], "path", "/");
  setDefault(probe["httpGet"], "scheme", "HTTP");
}

void defaultContainers(Json& podSpec, const char* field) {
  if (!podSpec.contains(field) || !podSpec[field].is_array()) return;
  for (Json& c : podSpec[field]) {
    if (!c.is_object()) continue;
    setDefault(c, "terminationMessagePath", "/dev/termination-log");
    setDefault(c, "terminationMessagePolicy", "File");
    if (!c.contains("resources")) c["resources"] = Json::object();
    setDefault(c, "imagePullPolicy", pullPolicyOf(stringAt(c, {"image"})));
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
      if (c.contains(probe)) defaultProbe(c[probe]);
    }
  }
}

void checkContainerPorts(const Json& container, bool hostNetwork, const std::string& where,
                         std::vector<FieldError>& errors) {
  const Json& ports = arrayAt(container, {"ports"});
  for (std::size_t j = 0; j < ports.size(); ++j) {
    const std::string p = where + ".ports[" + std::to_string(j) + "]";
    checkPort(ports[j].value("containerPort", Json(0)), p + ".containerPort", errors);
    if (const Json* host = at(ports[j], {"hostPort"}); host != nullptr && *host != 0) {
      checkPort(*host, p + ".hostPort", errors);
      if (hostNetwork && *host != ports[j].value("containerPort", Json(0))) {
        errors.push_back(invalidValue(p + ".containerPort", ports[j]["containerPort"],
                                      "must match `hostPort` when `hostNetwork` is true"));
      }
    }
  }
}

// `volumes`: the names of the Pod's; `names`: those of the containers before this one.
void checkContainer(const Json& container, const std::set<std::string>& volumes,
                    std::set<std::string>& names, const std::string& where,
                    std::vector<FieldError>& errors) {
  const std::string name = stringAt(container, {"name"});
  if (name.empty()) {
    errors.push_back(required(where + ".name"));
  } else if (const auto why = checkDns1123Label(name); !why.empty()) {
    errors.push_back(invalidValue(where + ".name", name, why));
  } else if (!names.insert(name).second) {
    errors.push_back(duplicate(where + ".name", name));
  }
  if (stringAt(container, {"image"}).empty()) errors.push_back(required(where + ".image"));
  const std::string pull = stringAt(container, {"imagePullPolicy"});
  if (!oneOf(pull, {"Always", "IfNotPresent", "Never"})) {
    errors.push_back(
        notSupported(where + ".imagePullPolicy", pull, {"Always", "IfNotPresent", "Never"}));
  }
  const Json& mounts = arrayAt(container, {"volumeMounts"});
  for (std::size_t j = 0; j < mounts.size(); ++j) {
    const std::string mount = stringAt(mounts[j], {"name"});
    if (!volumes.contains(mount)) {
      errors.push_back({where + ".volumeMounts[" + std::to_string(j) + "].name",
                        "FieldValueNotFound", "Not found: " + Json(mount).dump()});
    }
  }
}

}  // namespace

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
    if (!volumes.insert(name).second) errors.push_back(duplicate(where, name));
  }
  std::set<std::string> names;
  for (const char* field : {"initContainers", "containers"}) {
    const Json& list = arrayAt(spec, {field});
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string where = path + "." + field + "[" + std::to_string(i) + "]";
      checkContainer(list[i], volumes, names, where, errors);
      checkContainerPorts(list[i], spec.value("hostNetwork", false), where, errors);
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

std::vector<FieldError> validateWorkload(const Json& object, const Json* old,
                                         const RequestInfo& info) {
  std::vector<FieldError> errors;
  if (info.subresource == "status") return errors;
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

void addWorkloadCells(const Json& object, Cells& cells) {
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

void addWorkloadColumns(std::vector<TableColumn>& columns) {
  for (const char* name : {"Containers", "Images", "Selector"})
    columns.push_back(column(name, "string", 1));
}

}  // namespace pointsman::e2e
