#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakeReplicaSetType(const TypeBuilder& build) {
  ResourceType replica_sets = build.Make("apps", "v1", "replicasets", "ReplicaSet", true, {"rs"});
  replica_sets.categories = {"all"};
  replica_sets.generations = true;
  replica_sets.columns = {kName, Column("Desired", "integer"), Column("Current", "integer"),
                          Column("Ready", "integer"), kAge};
  AddWorkloadColumns(replica_sets.columns);
  replica_sets.cells = [](const Json& o, Clock::time_point now) -> Cells {
    Cells cells{NameOf(o), IntAt(o, {"spec", "replicas"}), IntAt(o, {"status", "replicas"}),
                IntAt(o, {"status", "readyReplicas"}), Age(o, now)};
    AddWorkloadCells(o, cells);
    return cells;
  };
  replica_sets.prepare_for_create = [](Json& o, const RequestInfo&) {
    o["status"] = {{"replicas", 0}};
  };
  replica_sets.apply_defaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    Json& spec = o["spec"];
    SetDefaultNumber(spec, "replicas", 1);
    if (spec.contains("template") && spec["template"].is_object() &&
        spec["template"].contains("spec") && spec["template"]["spec"].is_object()) {
      DefaultPodSpec(spec["template"]["spec"]);
    }
  };
  replica_sets.validate = ValidateWorkload;
  return replica_sets;
}

}  // namespace pointsman::e2e
