#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakePriorityClassType(const TypeBuilder& build) {
  ResourceType priorities =
      build.Make("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", false, {"pc"});
  priorities.columns = {kName, Column("Value", "integer"), Column("Global-Default", "boolean"),
                        kAge};
  priorities.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {NameOf(o), IntAt(o, {"value"}), o.value("globalDefault", false), Age(o, now)};
  };
  priorities.apply_defaults = [](Json& o) {
    SetDefault(o, "preemptionPolicy", "PreemptLowerPriority");
  };
  return priorities;
}

}  // namespace pointsman::e2e
