#include "e2e/testbed/kubelet/pod_volumes.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <stdexcept>

#include "kube/client/api_error.h"

namespace pointsman::e2e {
namespace {

const kube::Resource kServiceAccounts{"", "v1", "serviceaccounts", "ServiceAccount", true};

}  // namespace

using kube::Json;

PodPlace PodVolumes::Place(const LocalPod& pod) const {
  const Json service = context_.client.Get(kube::resources::kServices, "default", "kubernetes");
  return {pod.ip, context_.node.address(), service.at("spec").at("clusterIP"),
          service.at("spec").at("ports").at(0).at("port"),
          context_.cluster.Program("x").parent_path()};
}

void PodVolumes::PrepareNodePath(const NodePath& path) const {
  const auto is = [&](const char* what) {
    return context_.node.Exec({"test", what, path.path}).ok();
  };
  if (path.type == "DirectoryOrCreate" && !is("-e"))
    context_.node.Check({"mkdir", "-p", path.path});
  if (path.for_everybody) context_.node.Check({"chmod", "0777", path.path});
  if (path.type == "FileOrCreate" && !is("-e")) context_.node.Check({"touch", path.path});
  const bool good = path.type.empty()              ? is("-e")
                    : path.type.starts_with("Dir") ? is("-d")
                                                   : is("-f");
  if (!good)
    throw std::invalid_argument("hostPath type check failed: " + path.path + " is not " +
                                (path.type.empty() ? "there" : "a " + path.type));
}

ConfigMapData PodVolumes::ConfigMaps(const LocalPod& pod) const {
  return [this, ns = pod.Namespace()](
             const std::string& name) -> std::optional<std::map<std::string, std::string>> {
    try {
      const Json map = context_.client.Get(kube::resources::kConfigMaps, ns, name);
      return map.value("data", std::map<std::string, std::string>());
    } catch (const kube::ApiError& error) {
      if (error.IsNotFound()) return std::nullopt;
      throw;
    }
  };
}

// A token bound to this Pod, as the kubelet asks for it (token manager).
std::string PodVolumes::Token(const LocalPod& pod, std::int64_t seconds) const {
  const Json& metadata = pod.object.at("metadata");
  const std::string account = pod.object.at("spec").value("serviceAccountName", "default");
  const Json answer = SendBody(context_.client.transport(), "POST",
                               kServiceAccounts.Path(pod.Namespace(), account, "token"),
                               {{"apiVersion", "authentication.k8s.io/v1"},
                                {"kind", "TokenRequest"},
                                {"spec",
                                 {{"expirationSeconds", seconds},
                                  {"boundObjectRef",
                                   {{"apiVersion", "v1"},
                                    {"kind", "Pod"},
                                    {"name", metadata.at("name")},
                                    {"uid", metadata.at("uid")}}}}}});
  return answer.at("status").at("token");
}

void PodVolumes::Project(LocalPod& pod) const {
  const Json object = WithApiAccess(pod.object);
  const auto owner = TokenOwner(pod.object);
  pod.renew_token = KubeletClock::time_point::max();
  for (const Json& volume : object.at("spec").value("volumes", Json::array())) {
    const std::string directory =
        pod.VolumesDirectory() + "/" + volume.at("name").get<std::string>() + "/";
    for (const ProjectedFile& file :
         ResolveProjected(object, volume, Place(pod), ConfigMaps(pod))) {
      if (!file.token) {
        context_.node.client().Put(directory + file.path, file.content, file.mode);
        continue;
      }
      context_.node.client().Put(directory + file.path, Token(pod, file.expiration_seconds),
                                 owner ? 0600 : file.mode, owner.value_or(0));
      const std::chrono::seconds lifetime(file.expiration_seconds);
      pod.renew_token = std::min(pod.renew_token, KubeletClock::now() + lifetime * 8 / 10);
    }
  }
}

void PodVolumes::RenewToken(LocalPod& pod, int tokens_wanted) const {
  if (pod.AnyRunning() &&
      (KubeletClock::now() >= pod.renew_token || pod.tokens_wanted != tokens_wanted)) {
    Project(pod);
    pod.tokens_wanted = tokens_wanted;
  }
}

}  // namespace pointsman::e2e
