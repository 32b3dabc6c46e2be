#include <string>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kTemplateGeneration = "deprecated.daemonset.template.generation";

Cells daemonSetCells(const Json& object, Clock::time_point now) {
  Cells cells{nameOf(object),
              intAt(object, {"status", "desiredNumberScheduled"}),
              intAt(object, {"status", "currentNumberScheduled"}),
              intAt(object, {"status", "numberReady"}),
              intAt(object, {"status", "updatedNumberScheduled"}),
              intAt(object, {"status", "numberAvailable"}),
              selectorText(at(object, {"spec", "template", "spec", "nodeSelector"})),
              age(object, now)};
  addWorkloadCells(object, cells);
  return cells;
}

}  // namespace

ResourceType makeDaemonSetType(const TypeBuilder& build) {
  ResourceType daemonSets = build.make("apps", "v1", "daemonsets", "DaemonSet", true, {"ds"});
  daemonSets.categories = {"all"};
  daemonSets.generations = true;
  daemonSets.columns = {kName,
                        column("Desired", "integer"),
                        column("Current", "integer"),
                        column("Ready", "integer"),
                        column("Up-to-date", "integer"),
                        column("Available", "integer"),
                        column("Node Selector"),
                        kAge};
  addWorkloadColumns(daemonSets.columns);
  daemonSets.cells = daemonSetCells;
  daemonSets.prepareForCreate = [](Json& o, const RequestInfo&) {
    o["status"] = {{"currentNumberScheduled", 0},
                   {"numberMisscheduled", 0},
                   {"desiredNumberScheduled", 0},
                   {"numberReady", 0}};
  };
  daemonSets.applyDefaults = [emulation = build.emulation()](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    defaultWorkloadTemplate(o);
    Json& strategy = objectIn(o["spec"], "updateStrategy");
    setDefault(strategy, "type", "RollingUpdate");
    if (strategy["type"] == "RollingUpdate") {
      Json& rolling = objectIn(strategy, "rollingUpdate");
      setDefaultNumber(rolling, "maxUnavailable", 1);
      if (emulation.atLeast(22)) setDefaultNumber(rolling, "maxSurge", 0);
    }
    setDefault(objectIn(o["metadata"], "annotations"), kTemplateGeneration, "1");
  };
  daemonSets.prepareForUpdate = [](Json& o, const Json& old, const RequestInfo&) {
    const std::string was = stringAt(old, {"metadata", "annotations", kTemplateGeneration});
    if (!was.empty() &&
        !o["metadata"].value("annotations", Json::object()).contains(kTemplateGeneration)) {
      o["metadata"]["annotations"][kTemplateGeneration] = was;
    }
  };
  daemonSets.validate = validateWorkload;
  return daemonSets;
}

}  // namespace pointsman::e2e
