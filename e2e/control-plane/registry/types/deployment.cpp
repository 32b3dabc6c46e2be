#include <string>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells DeploymentCells(const Json& object, Clock::time_point now) {
  Cells cells{NameOf(object),
              std::to_string(IntAt(object, {"status", "readyReplicas"})) + "/" +
                  std::to_string(IntAt(object, {"spec", "replicas"})),
              IntAt(object, {"status", "updatedReplicas"}),
              IntAt(object, {"status", "availableReplicas"}), Age(object, now)};
  AddWorkloadCells(object, cells);
  return cells;
}

}  // namespace

ResourceType MakeDeploymentType(const TypeBuilder& build) {
  ResourceType deployments =
      build.Make("apps", "v1", "deployments", "Deployment", true, {"deploy"});
  deployments.categories = {"all"};
  deployments.generations = true;
  deployments.columns = {kName, Column("Ready"), Column("Up-to-date"), Column("Available"), kAge};
  AddWorkloadColumns(deployments.columns);
  deployments.cells = DeploymentCells;
  deployments.prepare_for_create = [](Json& o, const RequestInfo&) {
    o["status"] = Json::object();
  };
  deployments.apply_defaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    DefaultWorkloadTemplate(o);
    Json& spec = o["spec"];
    SetDefaultNumber(spec, "replicas", 1);
    SetDefaultNumber(spec, "progressDeadlineSeconds", 600);
    Json& strategy = ObjectIn(spec, "strategy");
    SetDefault(strategy, "type", "RollingUpdate");
    if (strategy["type"] == "RollingUpdate") {
      Json& rolling = ObjectIn(strategy, "rollingUpdate");
      SetDefaultNumber(rolling, "maxUnavailable", "25%");
      SetDefaultNumber(rolling, "maxSurge", "25%");
    }
  };
  deployments.validate = ValidateWorkload;
  return deployments;
}

}  // namespace pointsman::e2e
