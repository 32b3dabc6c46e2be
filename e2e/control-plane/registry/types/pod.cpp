#include <cstdint>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/pod_admission.h"
#include "e2e/control-plane/registry/types/pod_spec.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

Cells podCells(const Json& object, Clock::time_point now) {
  const Json& statuses = arrayAt(object, {"status", "containerStatuses"});
  int ready = 0;
  std::int64_t restarts = 0;
  std::string reason = stringAt(object, {"status", "phase"});
  if (const std::string r = stringAt(object, {"status", "reason"}); !r.empty()) reason = r;
  bool running = false;
  for (auto s = statuses.rbegin(); s != statuses.rend(); ++s) {
    restarts += intAt(*s, {"restartCount"});
    const std::string waiting = stringAt(*s, {"state", "waiting", "reason"});
    const std::string terminated = stringAt(*s, {"state", "terminated", "reason"});
    if (!waiting.empty()) {
      reason = waiting;
    } else if (!terminated.empty()) {
      reason = terminated;
    } else if (const Json* r = at(*s, {"ready"}); r != nullptr && *r == true) {
      ++ready;
      if (at(*s, {"state", "running"}) != nullptr) running = true;
    }
  }
  if (reason == "Completed" && running) reason = "Running";
  if (at(object, {"metadata", "deletionTimestamp"}) != nullptr) reason = "Terminating";
  std::size_t gates = 0;
  for (const Json& gate : arrayAt(object, {"spec", "readinessGates"})) {
    for (const Json& c : arrayAt(object, {"status", "conditions"})) {
      if (stringAt(c, {"type"}) == stringAt(gate, {"conditionType"}) &&
          stringAt(c, {"status"}) == "True") {
        ++gates;
      }
    }
  }
  const std::size_t wanted = arrayAt(object, {"spec", "readinessGates"}).size();
  return {
      nameOf(object),
      std::to_string(ready) + "/" + std::to_string(arrayAt(object, {"spec", "containers"}).size()),
      reason,
      std::to_string(restarts),
      age(object, now),
      orNone(stringAt(object, {"status", "podIP"})),
      orNone(stringAt(object, {"spec", "nodeName"})),
      orNone(stringAt(object, {"status", "nominatedNodeName"})),
      wanted == 0 ? "<none>" : std::to_string(gates) + "/" + std::to_string(wanted)};
}

std::vector<FieldError> validatePod(const Json& o, const Json* old, const RequestInfo& info) {
  std::vector<FieldError> errors;
  if (info.subresource == "status") return errors;
  checkPodSpec(o["spec"], "spec", errors);
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

ResourceType makePodType(const TypeBuilder& build) {
  ResourceType pods = build.make("", "v1", "pods", "Pod", true, {"po"});
  pods.categories = {"all"};
  pods.columns = {kName,
                  column("Ready"),
                  column("Status"),
                  column("Restarts"),
                  kAge,
                  column("IP", "string", 1),
                  column("Node", "string", 1),
                  column("Nominated Node", "string", 1),
                  column("Readiness Gates", "string", 1)};
  pods.cells = podCells;
  pods.prepareForCreate = [&store = build.store()](Json& o, const RequestInfo&) {
    o["status"] = {{"phase", "Pending"}};
    admitPod(o, store);
  };
  pods.applyDefaults = [](Json& o) {
    if (!o.contains("spec") || !o["spec"].is_object()) o["spec"] = Json::object();
    setDefaultNumber(o["spec"], "enableServiceLinks", true);
    setDefault(o["spec"], "serviceAccountName", "default");
    defaultPodSpec(o["spec"]);
  };
  pods.validate = validatePod;
  build.indexFields(
      pods, {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
             "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"});
  return pods;
}

}  // namespace pointsman::e2e
