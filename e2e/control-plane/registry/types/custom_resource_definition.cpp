#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakeCustomResourceDefinitionType(const TypeBuilder& build) {
  ResourceType crds = build.Make("apiextensions.k8s.io", "v1", "customresourcedefinitions",
                                 "CustomResourceDefinition", false, {"crd", "crds"});
  crds.categories = {"api-extensions"};
  crds.generations = true;
  crds.columns = {kName, {"Created At", "date", "", "Created At", 0}};
  crds.cells = [](const Json& o, Clock::time_point) -> Cells {
    return {NameOf(o), StringAt(o, {"metadata", "creationTimestamp"})};
  };
  return crds;
}

}  // namespace pointsman::e2e
