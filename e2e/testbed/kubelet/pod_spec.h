// What a Pod's spec means for the processes that stand for its containers. Pure functions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace pointsman::e2e {

struct PodPlace {
  std::string pod_ip;
  std::string host_ip;
  std::string api_host;  // KUBERNETES_SERVICE_HOST and _PORT, unless the Pod sets them
  std::uint16_t api_port = 0;
  std::filesystem::path bin_dir;
};

// The keys (data) of a ConfigMap in the Pod's namespace; nullopt: there is none of that name.
using ConfigMapData =
    std::function<std::optional<std::map<std::string, std::string>>(const std::string& name)>;

// A directory or file of the node that the container sees at `target`.
struct ContainerMount {
  std::string source;
  std::string target;
  bool read_only = false;
};

// A hostPath or emptyDir volume: what has to be at `path` on the node before it is mounted.
struct NodePath {
  std::string path;
  // hostPath's types "", "Directory", "DirectoryOrCreate", "File", "FileOrCreate"; "": either.
  std::string type;
  bool for_everybody = false;  // any user may write to it
};

// A file of a projected volume, or of one of a ConfigMap. A token's content is for the API server
// to give.
struct ProjectedFile {
  std::string path;  // in the volume
  std::string content;
  bool token = false;
  std::int64_t expiration_seconds = 0;  // of the token
  unsigned mode = 0644;
};

// The Pod as the API server's service account admission makes it: each container sees a projected
// volume with token, CA certificate and namespace, unless the Pod says
// automountServiceAccountToken: false or the container has something else mounted there.
nlohmann::json WithApiAccess(nlohmann::json pod);

// The files of one of the Pod's volumes; empty when it is neither a projected one nor a
// ConfigMap's. Throws std::invalid_argument with the field's path for what is not supported here,
// and for a ConfigMap or a key of one that is not there.
std::vector<ProjectedFile> ResolveProjected(const nlohmann::json& pod, const nlohmann::json& volume,
                                            const PodPlace& place,
                                            const ConfigMapData& config_maps);

// What pointsman-container runs.
struct ContainerSpec {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
  std::string cwd = "/";
  unsigned uid = 0;
  unsigned gid = 0;
  std::set<unsigned> groups;
  std::set<std::string> capabilities;
  bool no_new_privileges = false;
  bool read_only_root = false;
  bool seccomp = false;                // the default profile
  std::vector<ContainerMount> mounts;  // by target, so that one inside another comes after it
  std::vector<NodePath> node_paths;
};

// `pod` as WithApiAccess gave it. Throws std::invalid_argument with the field's path for what is
// not supported or, as a kubelet does, for a container that must not but would run as root.
// `volumes_dir`: where the node keeps this Pod's emptyDirs, projected volumes and those of
// ConfigMaps.
ContainerSpec ResolveContainer(const nlohmann::json& pod, const nlohmann::json& container,
                               const PodPlace& place, const ConfigMapData& config_maps,
                               const std::string& volumes_dir);

// The user that owns the Pod's token and alone may read it (all containers run as it), or nullopt:
// everybody may read it (kubelet, volume/projected: ownership of service account tokens).
std::optional<unsigned> TokenOwner(const nlohmann::json& pod);

// The file that pointsman-container reads. `hostname`: "" keeps the node's.
nlohmann::json ToJson(const ContainerSpec& spec, const nlohmann::json& pod,
                      const std::filesystem::path& programs);

// "$(NAME)" is replaced when known and left as it is otherwise; "$$(NAME)" is "$(NAME)" (as in Pod
// commands).
std::string ExpandVariables(const std::string& text,
                            const std::map<std::string, std::string>& variables);

}  // namespace pointsman::e2e
