#include "e2e/testbed/kubelet/pod_spec.h"

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

}  // namespace

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

ContainerCommand ResolveContainer(const json& pod, const json& container, const PodPlace& place,
                                  const ConfigMapKey& config_map) {
  ContainerCommand result;
  result.env["KUBERNETES_SERVICE_HOST"] = place.api_host;
  result.env["KUBERNETES_SERVICE_PORT"] = std::to_string(place.api_port);
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
      const auto value = config_map(reference.at("name"), reference.at("key"));
      if (value) {
        result.env[name] = *value;
      } else if (!reference.value("optional", false)) {
        throw std::invalid_argument("env." + name + ".valueFrom.configMapKeyRef: no key '" +
                                    reference.at("key").get<std::string>() + "' in ConfigMap '" +
                                    reference.at("name").get<std::string>() + "'");
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
  const std::filesystem::path built =
      place.bin_dir / std::filesystem::path(result.argv.front()).filename();
  if (std::filesystem::exists(built)) result.argv.front() = built;
  for (const std::string argument : container.value("args", json::array()))
    result.argv.push_back(argument);
  for (auto& argument : result.argv)
    argument = ExpandVariables(argument, result.env);
  for (const auto& mount : container.value("volumeMounts", json::array())) {
    for (const auto& volume : pod.at("spec").value("volumes", json::array())) {
      if (volume.at("name") != mount.at("name") || !volume.contains("hostPath")) continue;
      const std::string path = volume["hostPath"].at("path");
      const std::string at = mount.at("mountPath");
      if (at == path) continue;
      if (!at.ends_with(path))
        throw std::invalid_argument("volumeMounts.mountPath: '" + at +
                                    "' does not end with the host's '" + path + "'");
      const std::string prefix = at.substr(0, at.size() - path.size()) + "/";
      for (auto& argument : result.argv) {
        const auto start = argument.starts_with(prefix) ? 0 : argument.find("=" + prefix);
        if (start == std::string::npos) continue;
        argument.erase(start == 0 && argument.starts_with(prefix) ? 0 : start + 1,
                       prefix.size() - 1);
      }
    }
  }
  return result;
}

}  // namespace pointsman::e2e
