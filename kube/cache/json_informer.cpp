#include "kube/cache/informer.h"

namespace pointsman::kube {
namespace {

std::string KeyOf(const Json& object) {
  const Json& metadata = object.at("metadata");
  const std::string name = metadata.at("name");
  const std::string ns = metadata.value("namespace", "");
  return ns.empty() ? name : ns + "/" + name;
}

bool SameVersion(const Json& a, const Json& b) {
  const std::string version = a.at("metadata").value("resourceVersion", "");
  return !version.empty() && version == b.at("metadata").value("resourceVersion", "");
}

}  // namespace

std::unique_ptr<JsonInformer> MakeJsonInformer(Client& client, Resource resource,
                                               ReflectorOptions options) {
  return std::make_unique<JsonInformer>(
      client, std::move(resource), std::move(options),
      [](std::string_view json) { return Json::parse(json); }, KeyOf, SameVersion);
}

}  // namespace pointsman::kube
