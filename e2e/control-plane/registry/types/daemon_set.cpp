#include <string>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kTemplateGeneration = "deprecated.daemonset.template.generation";

Cells DaemonSetCells(const Json& object, Clock::time_point now) {
  Cells cells{NameOf(object),
              IntAt(object, {"status", "desiredNumberScheduled"}),
              IntAt(object, {"status", "currentNumberScheduled"}),
              IntAt(object, {"status", "numberReady"}),
              IntAt(object, {"status", "updatedNumberScheduled"}),
              IntAt(object, {"status", "numberAvailable"}),
              SelectorText(At(object, {"spec", "template", "spec", "nodeSelector"})),
              Age(object, now)};
  AddWorkloadCells(object, cells);
  return cells;
}

}  // namespace

ResourceType MakeDaemonSetType(const TypeBuilder& build) {
  ResourceType daemon_sets = build.Make("apps", "v1", "daemonsets", "DaemonSet", true, {"ds"});
  daemon_sets.categories = {"all"};
  daemon_sets.generations = true;
  daemon_sets.columns = {kName,
                         Column("Desired", "integer"),
                         Column("Current", "integer"),
                         Column("Ready", "integer"),
                         Column("Up-to-date", "integer"),
                         Column("Available", "integer"),
                         Column("Node Selector"),
                         kAge};
  AddWorkloadColumns(daemon_sets.columns);
  daemon_sets.cells = DaemonSetCells;
  daemon_sets.prepare_for_create = [](Json& o, const RequestInfo&) {
    o["status"] = {{"currentNumberScheduled", 0},
                   {"numberMisscheduled", 0},
                   {"desiredNumberScheduled", 0},
                   {"numberReady", 0}};
  };
  daemon_sets.apply_defaults = [emulation = build.emulation()](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) return;
    DefaultWorkloadTemplate(o);
    Json& strategy = ObjectIn(o["spec"], "updateStrategy");
    SetDefault(strategy, "type", "RollingUpdate");
    if (strategy["type"] == "RollingUpdate") {
      Json& rolling = ObjectIn(strategy, "rollingUpdate");
      SetDefaultNumber(rolling, "maxUnavailable", 1);
      if (emulation.AtLeast(22)) SetDefaultNumber(rolling, "maxSurge", 0);
    }
    SetDefault(ObjectIn(o["metadata"], "annotations"), kTemplateGeneration, "1");
  };
  daemon_sets.prepare_for_update = [](Json& o, const Json& old, const RequestInfo&) {
    const std::string was = StringAt(old, {"metadata", "annotations", kTemplateGeneration});
    if (!was.empty() &&
        !o["metadata"].value("annotations", Json::object()).contains(kTemplateGeneration)) {
      o["metadata"]["annotations"][kTemplateGeneration] = was;
    }
  };
  daemon_sets.validate = ValidateWorkload;
  return daemon_sets;
}

}  // namespace pointsman::e2e
