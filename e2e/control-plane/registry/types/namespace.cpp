#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType makeNamespaceType(const TypeBuilder& build) {
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
  build.indexFields(namespaces, {"status.phase"});
  return namespaces;
}

}  // namespace pointsman::e2e
