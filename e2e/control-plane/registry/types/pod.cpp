#include <cstdint>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/pod_admission.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells PodCells(const Json& object, Clock::time_point now) {
  const Json& statuses = ArrayAt(object, {"status", "containerStatuses"});
  int ready = 0;
  std::int64_t restarts = 0;
  std::string reason = StringAt(object, {"status", "phase"});
  if (const std::string r = StringAt(object, {"status", "reason"}); !r.empty()) reason = r;
  bool running = false;
  for (auto s = statuses.rbegin(); s != statuses.rend(); ++s) {
    restarts += IntAt(*s, {"restartCount"});
    const std::string waiting = StringAt(*s, {"state", "waiting", "reason"});
    const std::string terminated = StringAt(*s, {"state", "terminated", "reason"});
    if (!waiting.empty()) {
      reason = waiting;
    } else if (!terminated.empty()) {
      reason = terminated;
    } else if (const Json* r = At(*s, {"ready"}); r != nullptr && *r == true) {
      ++ready;
      if (At(*s, {"state", "running"}) != nullptr) running = true;
    }
  }
  if (reason == "Completed" && running) reason = "Running";
  if (At(object, {"metadata", "deletionTimestamp"}) != nullptr) reason = "Terminating";
  std::size_t gates = 0;
  for (const Json& gate : ArrayAt(object, {"spec", "readinessGates"})) {
    for (const Json& c : ArrayAt(object, {"status", "conditions"})) {
      if (StringAt(c, {"type"}) == StringAt(gate, {"conditionType"}) &&
          StringAt(c, {"status"}) == "True") {
        ++gates;
      }
    }
  }
  const std::size_t wanted = ArrayAt(object, {"spec", "readinessGates"}).size();
  return {
      NameOf(object),
      std::to_string(ready) + "/" + std::to_string(ArrayAt(object, {"spec", "containers"}).size()),
      reason,
      std::to_string(restarts),
      Age(object, now),
      OrNone(StringAt(object, {"status", "podIP"})),
      OrNone(StringAt(object, {"spec", "nodeName"})),
      OrNone(StringAt(object, {"status", "nominatedNodeName"})),
      wanted == 0 ? "<none>" : std::to_string(gates) + "/" + std::to_string(wanted)};
}

std::vector<FieldError> ValidatePod(const Json& o, const Json* old, const RequestInfo& info) {
  std::vector<FieldError> errors;
  if (info.subresource == "status") return errors;
  CheckPodSpec(o["spec"], "spec", errors);
  if (old != nullptr) {
    // What may change: images, activeDeadlineSeconds, added tolerations.
    Json a = o["spec"];
    Json b = (*old)["spec"];
    for (Json* spec : {&a, &b}) {
      for (const char* field : {"containers", "initContainers"}) {
        if (spec->contains(field)) {
          for (Json& c : (*spec)[field])
            c.erase("image");
        }
      }
      spec->erase("activeDeadlineSeconds");
      spec->erase("tolerations");
      spec->erase("terminationGracePeriodSeconds");
      spec->erase("schedulingGates");
    }
    if (a != b) {
      errors.push_back(
          {"spec", "FieldValueForbidden",
           "Forbidden: pod updates may not change fields other than "
           "`spec.containers[*].image`,`spec.initContainers[*].image`,"
           "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
           "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be "
           "set to 1 if it was previously negative)"});
    }
  }
  return errors;
}

}  // namespace

ResourceType MakePodType(const TypeBuilder& build) {
  ResourceType pods = build.Make("", "v1", "pods", "Pod", true, {"po"});
  pods.categories = {"all"};
  pods.columns = {kName,
                  Column("Ready"),
                  Column("Status"),
                  Column("Restarts"),
                  kAge,
                  Column("IP", "string", 1),
                  Column("Node", "string", 1),
                  Column("Nominated Node", "string", 1),
                  Column("Readiness Gates", "string", 1)};
  pods.cells = PodCells;
  pods.prepare_for_create = [&store = build.store()](Json& o, const RequestInfo&) {
    o["status"] = {{"phase", "Pending"}};
    AdmitPod(o, store);
  };
  pods.apply_defaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) o["spec"] = Json::object();
    SetDefaultNumber(o["spec"], "enableServiceLinks", true);
    SetDefault(o["spec"], "serviceAccountName", "default");
    DefaultPodSpec(o["spec"]);
  };
  pods.validate = ValidatePod;
  build.IndexFields(
      pods, {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
             "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"});
  return pods;
}

}  // namespace pointsman::e2e
