#include "e2e/control-plane/registry/types/pod_spec.h"

#include <set>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/type_builder.h"

namespace pointsman::e2e {
namespace {

std::string PullPolicyOf(const std::string& image) {
  const auto slash = image.rfind('/');
  const std::string last = slash == std::string::npos ? image : image.substr(slash + 1);
  const auto colon = last.find(':');
  const bool latest = last.find('@') == std::string::npos &&
                      (colon == std::string::npos || last.substr(colon + 1) == "latest");
  return latest ? "Always" : "IfNotPresent";
}

void DefaultProbe(Json& probe) {
  SetDefaultNumber(probe, "timeoutSeconds", 1);
  SetDefaultNumber(probe, "periodSeconds", 10);
  SetDefaultNumber(probe, "successThreshold", 1);
  SetDefaultNumber(probe, "failureThreshold", 3);
  if (!probe.contains("httpGet")) return;
  SetDefault(probe["httpGet"], "path", "/");
  SetDefault(probe["httpGet"], "scheme", "HTTP");
}

void DefaultContainers(Json& pod_spec, const char* field) {
  if (!pod_spec.contains(field) || !pod_spec[field].is_array()) return;
  for (Json& c : pod_spec[field]) {
    if (!c.is_object()) continue;
    SetDefault(c, "terminationMessagePath", "/dev/termination-log");
    SetDefault(c, "terminationMessagePolicy", "File");
    if (!c.contains("resources")) c["resources"] = Json::object();
    SetDefault(c, "imagePullPolicy", PullPolicyOf(StringAt(c, {"image"})));
    if (c.contains("ports")) {
      for (Json& port : c["ports"]) {
        SetDefault(port, "protocol", "TCP");
        if (pod_spec.contains("hostNetwork") && pod_spec["hostNetwork"] == true) {
          SetDefaultNumber(port, "hostPort", port.value("containerPort", 0));
        }
      }
    }
    if (c.contains("env")) {
      for (Json& env : c["env"]) {
        if (env.contains("valueFrom") && env["valueFrom"].contains("fieldRef")) {
          SetDefault(env["valueFrom"]["fieldRef"], "apiVersion", "v1");
        }
      }
    }
    for (const char* probe : {"livenessProbe", "readinessProbe", "startupProbe"}) {
      if (c.contains(probe)) DefaultProbe(c[probe]);
    }
  }
}

void CheckContainerPorts(const Json& container, bool host_network, const std::string& where,
                         std::vector<FieldError>& errors) {
  const Json& ports = ArrayAt(container, {"ports"});
  for (std::size_t j = 0; j < ports.size(); ++j) {
    const std::string p = where + ".ports[" + std::to_string(j) + "]";
    CheckPort(ports[j].value("containerPort", Json(0)), p + ".containerPort", errors);
    if (const Json* host = At(ports[j], {"hostPort"}); host != nullptr && *host != 0) {
      CheckPort(*host, p + ".hostPort", errors);
      if (host_network && *host != ports[j].value("containerPort", Json(0))) {
        errors.push_back(InvalidValue(p + ".containerPort", ports[j]["containerPort"],
                                      "must match `hostPort` when `hostNetwork` is true"));
      }
    }
  }
}

// `volumes`: the names of the Pod's; `names`: those of the containers before this one.
void CheckContainer(const Json& container, const std::set<std::string>& volumes,
                    std::set<std::string>& names, const std::string& where,
                    std::vector<FieldError>& errors) {
  const std::string name = StringAt(container, {"name"});
  if (name.empty()) {
    errors.push_back(Required(where + ".name"));
  } else if (const auto why = CheckDns1123Label(name); !why.empty()) {
    errors.push_back(InvalidValue(where + ".name", name, why));
  } else if (!names.insert(name).second) {
    errors.push_back(Duplicate(where + ".name", name));
  }
  if (StringAt(container, {"image"}).empty()) errors.push_back(Required(where + ".image"));
  const std::string pull = StringAt(container, {"imagePullPolicy"});
  if (!OneOf(pull, {"Always", "IfNotPresent", "Never"})) {
    errors.push_back(
        NotSupported(where + ".imagePullPolicy", pull, {"Always", "IfNotPresent", "Never"}));
  }
  const Json& mounts = ArrayAt(container, {"volumeMounts"});
  for (std::size_t j = 0; j < mounts.size(); ++j) {
    const std::string mount = StringAt(mounts[j], {"name"});
    if (!volumes.contains(mount)) {
      errors.push_back({where + ".volumeMounts[" + std::to_string(j) + "].name",
                        "FieldValueNotFound", "Not found: " + Json(mount).dump()});
    }
  }
}

}  // namespace

void DefaultPodSpec(Json& spec) {
  SetDefault(spec, "restartPolicy", "Always");
  SetDefault(spec, "dnsPolicy", "ClusterFirst");
  SetDefault(spec, "schedulerName", "default-scheduler");
  SetDefaultNumber(spec, "terminationGracePeriodSeconds", 30);
  if (!spec.contains("securityContext")) spec["securityContext"] = Json::object();
  if (spec.contains("serviceAccountName")) spec["serviceAccount"] = spec["serviceAccountName"];
  DefaultContainers(spec, "initContainers");
  DefaultContainers(spec, "containers");
  if (!spec.contains("volumes") || !spec["volumes"].is_array()) return;
  for (Json& v : spec["volumes"]) {
    if (v.contains("hostPath")) {
      if (!v["hostPath"].contains("type")) v["hostPath"]["type"] = "";
    } else if (v.contains("configMap")) {
      SetDefaultNumber(v["configMap"], "defaultMode", 420);
    } else if (v.contains("secret")) {
      SetDefaultNumber(v["secret"], "defaultMode", 420);
    } else if (v.contains("projected")) {
      SetDefaultNumber(v["projected"], "defaultMode", 420);
    } else if (v.contains("downwardAPI")) {
      SetDefaultNumber(v["downwardAPI"], "defaultMode", 420);
    } else if (v.size() == 1) {
      v["emptyDir"] = Json::object();
    }
  }
}

void CheckNodeAffinity(const Json& spec, const std::string& path, std::vector<FieldError>& errors) {
  const std::string required = "requiredDuringSchedulingIgnoredDuringExecution";
  const Json& terms =
      ArrayAt(spec, {"affinity", "nodeAffinity", required.c_str(), "nodeSelectorTerms"});
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const Json& matches = ArrayAt(terms[i], {"matchExpressions"});
    for (std::size_t j = 0; j < matches.size(); ++j) {
      const std::string by = StringAt(matches[j], {"operator"});
      if (OneOf(by, {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"})) continue;
      errors.push_back(InvalidValue(path + ".affinity.nodeAffinity." + required +
                                        ".nodeSelectorTerms[" + std::to_string(i) +
                                        "].matchExpressions[" + std::to_string(j) + "].operator",
                                    by, "not a valid selector operator"));
    }
  }
}

void CheckPodSpec(const Json& spec, const std::string& path, std::vector<FieldError>& errors) {
  CheckNodeAffinity(spec, path, errors);
  const Json& containers = ArrayAt(spec, {"containers"});
  if (containers.empty()) errors.push_back(Required(path + ".containers"));
  std::set<std::string> volumes;
  const Json& volume_list = ArrayAt(spec, {"volumes"});
  for (std::size_t i = 0; i < volume_list.size(); ++i) {
    const std::string where = path + ".volumes[" + std::to_string(i) + "].name";
    const std::string name = StringAt(volume_list[i], {"name"});
    if (const auto why = CheckDns1123Label(name); !why.empty())
      errors.push_back(InvalidValue(where, name, why));
    if (!volumes.insert(name).second) errors.push_back(Duplicate(where, name));
  }
  std::set<std::string> names;
  for (const char* field : {"initContainers", "containers"}) {
    const Json& list = ArrayAt(spec, {field});
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string where = path + "." + field + "[" + std::to_string(i) + "]";
      CheckContainer(list[i], volumes, names, where, errors);
      CheckContainerPorts(list[i], spec.value("hostNetwork", false), where, errors);
    }
  }
  const std::string restart = StringAt(spec, {"restartPolicy"});
  if (!OneOf(restart, {"Always", "OnFailure", "Never"})) {
    errors.push_back(
        NotSupported(path + ".restartPolicy", restart, {"Always", "OnFailure", "Never"}));
  }
  const std::string dns = StringAt(spec, {"dnsPolicy"});
  if (!OneOf(dns, {"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"})) {
    errors.push_back(NotSupported(path + ".dnsPolicy", dns,
                                  {"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"}));
  }
}

void DefaultWorkloadTemplate(Json& object) {
  Json& spec = object["spec"];
  if (spec.contains("template") && spec["template"].is_object()) {
    Json& pod_template = spec["template"];
    if (!pod_template.contains("metadata")) pod_template["metadata"] = Json::object();
    if (!pod_template.contains("spec") || !pod_template["spec"].is_object()) {
      pod_template["spec"] = Json::object();
    }
    DefaultPodSpec(pod_template["spec"]);
  }
  SetDefaultNumber(spec, "revisionHistoryLimit", 10);
}

std::vector<FieldError> ValidateWorkload(const Json& object, const Json* old,
                                         const RequestInfo& info) {
  std::vector<FieldError> errors;
  if (info.subresource == "status") return errors;
  const Json* selector = At(object, {"spec", "selector"});
  if (selector == nullptr) {
    errors.push_back(Required("spec.selector"));
  } else {
    const Json* labels = At(object, {"spec", "template", "metadata", "labels"});
    if (const Json* match = At(*selector, {"matchLabels"})) {
      for (const auto& [key, value] : match->items()) {
        const Json* label = labels == nullptr ? nullptr : At(*labels, {key.c_str()});
        if (label == nullptr || *label != value) {
          errors.push_back(InvalidValue("spec.template.metadata.labels",
                                        labels == nullptr ? Json::object() : *labels,
                                        "`selector` does not match template `labels`"));
          break;
        }
      }
    }
    if (old != nullptr && *selector != (*old)["spec"]["selector"]) {
      errors.push_back(InvalidValue("spec.selector", *selector, "field is immutable"));
    }
  }
  if (const Json* spec = At(object, {"spec", "template", "spec"})) {
    CheckPodSpec(*spec, "spec.template.spec", errors);
    if (const auto restart = StringAt(*spec, {"restartPolicy"}); restart != "Always") {
      errors.push_back(NotSupported("spec.template.spec.restartPolicy", restart, {"Always"}));
    }
  }
  return errors;
}

void AddWorkloadCells(const Json& object, Cells& cells) {
  std::vector<std::string> names;
  std::vector<std::string> images;
  for (const Json& c : ArrayAt(object, {"spec", "template", "spec", "containers"})) {
    names.push_back(StringAt(c, {"name"}));
    images.push_back(StringAt(c, {"image"}));
  }
  cells.emplace_back(Join(names));
  cells.emplace_back(Join(images));
  cells.emplace_back(LabelSelectorText(At(object, {"spec", "selector"})));
}

void AddWorkloadColumns(std::vector<TableColumn>& columns) {
  for (const char* name : {"Containers", "Images", "Selector"})
    columns.push_back(Column(name, "string", 1));
}

}  // namespace pointsman::e2e
