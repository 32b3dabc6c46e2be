// What a Pod's spec means for the processes that stand for its containers. Pure functions.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace pointsman::e2e {

struct ContainerCommand {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
};

struct PodPlace {
  std::string pod_ip;
  std::string host_ip;
  std::string api_host;  // KUBERNETES_SERVICE_HOST, unless the Pod sets it
  std::uint16_t api_port = 0;
  std::filesystem::path bin_dir;
};

// Looks up a key of a ConfigMap in the Pod's namespace; nullopt: there is none.
using ConfigMapKey =
    std::function<std::optional<std::string>(const std::string& name, const std::string& key)>;

// Throws std::invalid_argument with the field's path for what is not supported.
ContainerCommand ResolveContainer(const nlohmann::json& pod, const nlohmann::json& container,
                                  const PodPlace& place, const ConfigMapKey& config_map);

// "$(NAME)" is replaced when known and left as it is otherwise; "$$(NAME)" is "$(NAME)" (as in Pod
// commands).
std::string ExpandVariables(const std::string& text,
                            const std::map<std::string, std::string>& variables);

}  // namespace pointsman::e2e
