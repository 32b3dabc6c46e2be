#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType makeReplicaSetType(const TypeBuilder& build) {
  ResourceType replicaSets = build.make("apps", "v1", "replicasets", "ReplicaSet", true, {"rs"});
  replicaSets.categories = {"all"};
  replicaSets.generations = true;
  replicaSets.columns = {kName, column("Desired", "integer"), column("Current", "integer"),
                         column("Ready", "integer"), kAge};
  addWorkloadColumns(replicaSets.columns);
  replicaSets.cells = [](const Json& o, Clock::time_point now) -> Cells {
    Cells cells{nameOf(o), intAt(o, {"spec", "replicas"}), intAt(o, {"status", "replicas"}),
                intAt(o, {"status", "readyReplicas"}), age(o, now)};
    addWorkloadCells(o, cells);
    return cells;
  };
  replicaSets.prepareForCreate = [](Json& o, const RequestInfo&) {
    o["status"] = {{"replicas", 0}};
  };
  replicaSets.applyDefaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    Json& spec = o["spec"];
    setDefaultNumber(spec, "replicas", 1);
    if (spec.contains("template") && spec["template"].is_object() &&
        spec["template"].contains("spec") && spec["template"]["spec"].is_object()) {
      defaultPodSpec(spec["template"]["spec"]);
    }
  };
  replicaSets.validate = validateWorkload;
  return replicaSets;
}

}  // namespace pointsman::e2e
