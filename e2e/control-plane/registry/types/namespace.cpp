#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakeNamespaceType(const TypeBuilder& build) {
  ResourceType namespaces = build.Make("", "v1", "namespaces", "Namespace", false, {"ns"});
  namespaces.columns = {kName, Column("Status"), kAge};
  namespaces.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {NameOf(o), StringAt(o, {"status", "phase"}), Age(o, now)};
  };
  namespaces.prepare_for_create = [](Json& o, const RequestInfo&) {
    o["status"] = {{"phase", "Active"}};
    o["spec"] = {{"finalizers", {"kubernetes"}}};
    o["metadata"]["labels"]["kubernetes.io/metadata.name"] = o["metadata"].value("name", "");
  };
  namespaces.prepare_for_update = [](Json& o, const Json& old, const RequestInfo& info) {
    if (info.subresource != "finalize") o["spec"] = old.value("spec", Json::object());
  };
  build.IndexFields(namespaces, {"status.phase"});
  return namespaces;
}

}  // namespace pointsman::e2e
