#include <string>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells deploymentCells(const Json& object, Clock::time_point now) {
  Cells cells{nameOf(object),
              std::to_string(intAt(object, {"status", "readyReplicas"})) + "/" +
                  std::to_string(intAt(object, {"spec", "replicas"})),
              intAt(object, {"status", "updatedReplicas"}),
              intAt(object, {"status", "availableReplicas"}), age(object, now)};
  addWorkloadCells(object, cells);
  return cells;
}

}  // namespace

ResourceType makeDeploymentType(const TypeBuilder& build) {
  ResourceType deployments =
      build.make("apps", "v1", "deployments", "Deployment", true, {"deploy"});
  deployments.categories = {"all"};
  deployments.generations = true;
  deployments.columns = {kName, column("Ready"), column("Up-to-date"), column("Available"), kAge};
  addWorkloadColumns(deployments.columns);
  deployments.cells = deploymentCells;
  deployments.prepareForCreate = [](Json& o, const RequestInfo&) { o["status"] = Json::object(); };
  deployments.applyDefaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    defaultWorkloadTemplate(o);
    Json& spec = o["spec"];
    setDefaultNumber(spec, "replicas", 1);
    setDefaultNumber(spec, "progressDeadlineSeconds", 600);
    Json& strategy = objectIn(spec, "strategy");
    setDefault(strategy, "type", "RollingUpdate");
    if (strategy["type"] == "RollingUpdate") {
      Json& rolling = objectIn(strategy, "rollingUpdate");
      setDefaultNumber(rolling, "maxUnavailable", "25%");
      setDefaultNumber(rolling, "maxSurge", "25%");
    }
  };
  deployments.validate = validateWorkload;
  return deployments;
}

}  // namespace pointsman::e2e
