#include "e2e/testbed/kubelet/pod_spec.h"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "e2e/testbed/kubelet/capabilities.h"

namespace pointsman::e2e {
namespace {

using nlohmann::json;

// Image (without tag) -> what it runs when the Pod gives no command.
const std::map<std::string, std::vector<std::string>> kImages = {
    {"pointsman.io/traffic", {"pointsman-traffic", "serve"}},
};

std::string WithoutTag(const std::string& image) {
  const auto colon = image.rfind(':');
  return colon == std::string::npos || image.find('/', colon) != std::string::npos
             ? image
             : image.substr(0, colon);
}

std::string FieldRef(const json& pod, const PodPlace& place, const std::string& path) {
  const json& metadata = pod.at("metadata");
  if (path == "metadata.name") return metadata.at("name");
  if (path == "metadata.namespace") return metadata.at("namespace");
  if (path == "metadata.uid") return metadata.at("uid");
  if (path == "spec.nodeName") return pod.at("spec").at("nodeName");
  if (path == "spec.serviceAccountName")
    return pod.at("spec").value("serviceAccountName", "default");
  if (path == "status.podIP") return place.pod_ip;
  if (path == "status.hostIP") return place.host_ip;
  throw std::invalid_argument("env.valueFrom.fieldRef.fieldPath: '" + path +
                              "' is not supported here");
}

// containerd's default environment.
constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string Name(const json& pod) {
  return pod.at("metadata").at("name");
}

// Of the container, else of the Pod.
const json* SecurityField(const json& pod, const json& container, const char* field) {
  for (const json* from : {&container, &pod.at("spec")}) {
    const auto context = from->find("securityContext");
    if (context == from->end() || !context->is_object()) continue;
    if (const auto found = context->find(field); found != context->end()) return &*found;
  }
  return nullptr;
}

template <typename T>
T SecurityValue(const json& pod, const json& container, const char* field, T otherwise) {
  const json* found = SecurityField(pod, container, field);
  return found == nullptr ? otherwise : found->get<T>();
}

// As CRI and containerd resolve them: "ALL" first, then single ones; adding wins over dropping.
std::set<std::string> Capabilities(const json& container) {
  const json asked = container.value("/securityContext/capabilities"_json_pointer, json::object());
  const auto list = [&](const char* field) {
    std::vector<std::string> names = asked.value(field, std::vector<std::string>());
    for (std::string& name : names) {
      if (name.starts_with("CAP_")) name.erase(0, 4);
      if (name != "ALL" && !CapabilityNumber(name))
        throw std::invalid_argument("securityContext.capabilities." + std::string(field) +
                                    ": there is no capability '" + name + "'");
    }
    return names;
  };
  const std::vector<std::string> drop = list("drop");
  const std::vector<std::string> add = list("add");
  const auto has_all = [](const auto& names) {
    return std::find(names.begin(), names.end(), "ALL") != names.end();
  };
  std::set<std::string> result = DefaultCapabilities();
  if (has_all(add)) result = AllCapabilities();
  if (has_all(drop)) result.clear();
  for (const std::string& name : drop)
    result.erase(name);
  for (const std::string& name : add) {
    if (name != "ALL") result.insert(name);
  }
  return result;
}

void ResolveSecurity(const json& pod, const json& container, ContainerSpec& spec) {
  const auto refuse = [](const std::string& field, const std::string& why) {
    throw std::invalid_argument("securityContext." + field + ": " + why);
  };
  const json own = container.value("securityContext", json::object());
  const json of_pod = pod.at("spec").value("securityContext", json::object());
  if (own.value("privileged", false)) refuse("privileged", "not supported here");
  if (own.value("procMount", "Default") != "Default")
    refuse("procMount", "only Default is supported here");
  for (const char* field : {"sysctls", "fsGroup"}) {
    if (of_pod.contains(field)) refuse(field, "not supported here");
  }
  spec.uid = SecurityValue<unsigned>(pod, container, "runAsUser", 0);
  spec.gid = SecurityValue<unsigned>(pod, container, "runAsGroup", 0);
  spec.groups = of_pod.value("supplementalGroups", std::set<unsigned>());
  if (spec.uid == 0 && SecurityValue(pod, container, "runAsNonRoot", false)) {
    refuse("runAsNonRoot", SecurityField(pod, container, "runAsUser") != nullptr
                               ? "container's runAsUser breaks non-root policy"
                               : "container has runAsNonRoot and image will run as root");
  }
  spec.capabilities = Capabilities(container);
  spec.no_new_privileges = !own.value("allowPrivilegeEscalation", true);
  spec.read_only_root = own.value("readOnlyRootFilesystem", false);
  const json* profile = SecurityField(pod, container, "seccompProfile");
  const std::string type = profile == nullptr ? "Unconfined" : profile->value("type", "");
  if (type == "Localhost") refuse("seccompProfile.type", "Localhost is not supported here");
  spec.seccomp = type == "RuntimeDefault";
}

void ResolveVolumes(const json& pod, const json& container, const std::string& volumes_dir,
                    ContainerSpec& spec) {
  for (const auto& mount : container.value("volumeMounts", json::array())) {
    const std::string name = mount.at("name");
    for (const char* field : {"subPath", "subPathExpr"}) {
      if (!mount.value(field, "").empty())
        throw std::invalid_argument("volumeMounts." + std::string(field) + ": not supported here");
    }
    if (mount.value("mountPropagation", "None") != "None")
      throw std::invalid_argument("volumeMounts.mountPropagation: only None is supported here");
    const json volumes = pod.at("spec").value("volumes", json::array());
    const auto volume = std::find_if(volumes.begin(), volumes.end(),
                                     [&](const json& item) { return item.at("name") == name; });
    if (volume == volumes.end())
      throw std::invalid_argument("volumeMounts.name: no volume '" + name + "'");
    NodePath on_node;
    if (volume->contains("hostPath")) {
      on_node = {volume->at("hostPath").at("path"), volume->at("hostPath").value("type", ""),
                 false};
      const std::set<std::string> known = {"", "Directory", "DirectoryOrCreate", "File",
                                           "FileOrCreate"};
      if (!known.contains(on_node.type))
        throw std::invalid_argument("volumes." + name + ".hostPath.type: '" + on_node.type +
                                    "' is not supported here");
    } else if (volume->contains("emptyDir")) {
      on_node = {fmt::format("{}/{}", volumes_dir, name), "DirectoryOrCreate", true};
    } else if (volume->contains("projected") || volume->contains("configMap")) {
      on_node = {fmt::format("{}/{}", volumes_dir, name), "DirectoryOrCreate", false};
    } else {
      throw std::invalid_argument(
          "volumes." + name +
          ": only hostPath, emptyDir, configMap and projected are supported here");
    }
    spec.node_paths.push_back(on_node);
    spec.mounts.push_back({on_node.path, mount.at("mountPath"), mount.value("readOnly", false)});
  }
  std::sort(spec.mounts.begin(), spec.mounts.end(),
            [](const auto& a, const auto& b) { return a.target < b.target; });
}

// The files that a volume has of a ConfigMap: those of its items, or all keys.
void AddConfigMap(const json& source, const std::string& field, unsigned mode,
                  const ConfigMapData& config_maps, std::vector<ProjectedFile>& files) {
  const std::string name = source.at("name");
  const auto data = config_maps(name);
  if (!data) throw std::invalid_argument(field + ": there is no ConfigMap '" + name + "'");
  const json items = source.value("items", json::array());
  for (const json& item : items) {
    const auto value = data->find(item.at("key"));
    if (value == data->end())
      throw std::invalid_argument(fmt::format("{}: no key '{}' in ConfigMap '{}'", field,
                                              item.at("key").get<std::string>(), name));
    files.push_back({.path = item.at("path"), .content = value->second, .mode = mode});
  }
  if (!items.empty()) return;
  for (const auto& [key, value] : *data)
    files.push_back({.path = key, .content = value, .mode = mode});
}

}  // namespace

json WithApiAccess(json pod) {
  constexpr const char* kMount = "/var/run/secrets/kubernetes.io/serviceaccount";
  json& spec = pod.at("spec");
  if (!spec.value("automountServiceAccountToken", true)) return pod;
  bool mounted = false;
  for (json& container : spec.at("containers")) {
    json& mounts = container["volumeMounts"];
    if (mounts.is_null()) mounts = json::array();
    if (std::any_of(mounts.begin(), mounts.end(),
                    [&](const json& mount) { return mount.at("mountPath") == kMount; })) {
      continue;
    }
    mounts.push_back({{"name", "kube-api-access"}, {"mountPath", kMount}, {"readOnly", true}});
    mounted = true;
  }
  if (!mounted) return pod;
  spec["volumes"].push_back(
      {{"name", "kube-api-access"},
       {"projected",
        {{"sources",
          {{{"serviceAccountToken", {{"path", "token"}, {"expirationSeconds", 3607}}}},
           {{"configMap",
             {{"name", "kube-root-ca.crt"}, {"items", {{{"key", "ca.crt"}, {"path", "ca.crt"}}}}}}},
           {{"downwardAPI",
             {{"items",
               {{{"path", "namespace"},
                 {"fieldRef", {{"fieldPath", "metadata.namespace"}}}}}}}}}}}}}});
  return pod;
}

std::vector<ProjectedFile> ResolveProjected(const json& pod, const json& volume,
                                            const PodPlace& place,
                                            const ConfigMapData& config_maps) {
  std::vector<ProjectedFile> files;
  const std::string name = "volumes." + volume.at("name").get<std::string>();
  if (const auto map = volume.find("configMap"); map != volume.end())
    AddConfigMap(*map, name + ".configMap", map->value("defaultMode", 0644U), config_maps, files);
  const auto projected = volume.find("projected");
  if (projected == volume.end()) return files;
  const std::string field = name + ".projected";
  const unsigned mode = projected->value("defaultMode", 0644U);
  for (const json& source : projected->value("sources", json::array())) {
    if (source.contains("serviceAccountToken")) {
      const json& token = source["serviceAccountToken"];
      if (token.contains("audience"))
        throw std::invalid_argument(field + ": an audience is not supported here");
      files.push_back({.path = token.at("path"),
                       .token = true,
                       .expiration_seconds = token.value("expirationSeconds", int64_t{3600}),
                       .mode = mode});
    } else if (source.contains("configMap")) {
      AddConfigMap(source["configMap"], field, mode, config_maps, files);
    } else if (source.contains("downwardAPI")) {
      for (const json& item : source["downwardAPI"].value("items", json::array())) {
        files.push_back({.path = item.at("path"),
                         .content = FieldRef(pod, place, item.at("fieldRef").at("fieldPath")),
                         .mode = mode});
      }
    } else {
      throw std::invalid_argument(
          field + ": only serviceAccountToken, configMap and downwardAPI are supported here");
    }
  }
  return files;
}

std::string ExpandVariables(const std::string& text,
                            const std::map<std::string, std::string>& variables) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '$') {
      out += text[i++];
      continue;
    }
    if (text.compare(i, 2, "$$") == 0) {
      out += '$';
      i += 2;
      continue;
    }
    const auto end = text.compare(i, 2, "$(") == 0 ? text.find(')', i) : std::string::npos;
    const auto found = end == std::string::npos ? variables.end()
                                                : variables.find(text.substr(i + 2, end - i - 2));
    if (found == variables.end()) {
      out += text[i++];
      continue;
    }
    out += found->second;
    i = end + 1;
  }
  return out;
}

ContainerSpec ResolveContainer(const json& pod, const json& container, const PodPlace& place,
                               const ConfigMapData& config_maps, const std::string& volumes_dir) {
  ContainerSpec result;
  result.env["PATH"] = kPath;
  result.env["HOME"] = "/root";
  result.env["HOSTNAME"] = Name(pod);
  result.env["KUBERNETES_SERVICE_HOST"] = place.api_host;
  result.env["KUBERNETES_SERVICE_PORT"] = std::to_string(place.api_port);
  if (!container.value("envFrom", json::array()).empty())
    throw std::invalid_argument("envFrom: not supported here");
  for (const auto& item : container.value("env", json::array())) {
    const std::string name = item.at("name");
    if (!item.contains("valueFrom")) {
      result.env[name] = ExpandVariables(item.value("value", ""), result.env);
      continue;
    }
    const json& from = item["valueFrom"];
    if (from.contains("fieldRef")) {
      result.env[name] = FieldRef(pod, place, from["fieldRef"].at("fieldPath"));
    } else if (from.contains("configMapKeyRef")) {
      const json& reference = from["configMapKeyRef"];
      const auto data = config_maps(reference.at("name"));
      const std::string key = reference.at("key");
      if (data && data->contains(key)) {
        result.env[name] = data->at(key);
      } else if (!reference.value("optional", false)) {
        throw std::invalid_argument(
            fmt::format("env.{}.valueFrom.configMapKeyRef: no key '{}' in ConfigMap '{}'", name,
                        key, reference.at("name").get<std::string>()));
      }
    } else {
      throw std::invalid_argument("env." + name +
                                  ".valueFrom: only fieldRef and configMapKeyRef are supported");
    }
  }
  result.argv = container.value("command", std::vector<std::string>());
  if (result.argv.empty()) {
    const std::string image = container.at("image");
    const auto found = kImages.find(WithoutTag(image));
    if (found == kImages.end())
      throw std::invalid_argument("image: nothing stands for '" + image +
                                  "' here and there is no command");
    result.argv = found->second;
  }
  const std::string program = std::filesystem::path(result.argv.front()).filename();
  if (std::filesystem::exists(place.bin_dir / program))
    result.argv.front() = "/usr/local/bin/" + program;
  for (const std::string argument : container.value("args", json::array()))
    result.argv.push_back(argument);
  for (auto& argument : result.argv)
    argument = ExpandVariables(argument, result.env);
  result.cwd = container.value("workingDir", "/");
  ResolveSecurity(pod, container, result);
  ResolveVolumes(pod, container, volumes_dir, result);
  return result;
}

std::optional<unsigned> TokenOwner(const json& pod) {
  std::optional<unsigned> owner;
  for (const json& container : pod.at("spec").at("containers")) {
    const json* user = SecurityField(pod, container, "runAsUser");
    if (user == nullptr || (owner && *owner != user->get<unsigned>())) return std::nullopt;
    owner = user->get<unsigned>();
  }
  return owner;
}

json ToJson(const ContainerSpec& spec, const json& pod, const std::filesystem::path& programs) {
  json mounts = json::array();
  for (const ContainerMount& mount : spec.mounts)
    mounts.push_back(
        {{"source", mount.source}, {"target", mount.target}, {"readOnly", mount.read_only}});
  const json& pod_spec = pod.at("spec");
  json result = {{"args", spec.argv},
                 {"env", spec.env},
                 {"cwd", spec.cwd},
                 {"uid", spec.uid},
                 {"gid", spec.gid},
                 {"groups", spec.groups},
                 {"capabilities", spec.capabilities},
                 {"noNewPrivileges", spec.no_new_privileges},
                 {"readOnlyRoot", spec.read_only_root},
                 {"seccomp", spec.seccomp},
                 {"mounts", mounts},
                 {"programs", programs.string()},
                 {"hostPID", pod_spec.value("hostPID", false)},
                 {"hostIPC", pod_spec.value("hostIPC", false)}};
  if (!pod_spec.value("hostNetwork", false)) result["hostname"] = Name(pod).substr(0, 63);
  return result;
}

}  // namespace pointsman::e2e
