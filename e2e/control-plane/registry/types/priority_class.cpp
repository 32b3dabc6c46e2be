#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType makePriorityClassType(const TypeBuilder& build) {
  ResourceType priorities =
      build.make("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", false, {"pc"});
  priorities.columns = {kName, column("Value", "integer"), column("Global-Default", "boolean"),
                        kAge};
  priorities.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), intAt(o, {"value"}), o.value("globalDefault", false), age(o, now)};
  };
  priorities.applyDefaults = [](Json& o) {
    setDefault(o, "preemptionPolicy", "PreemptLowerPriority");
  };
  return priorities;
}

}  // namespace pointsman::e2e
