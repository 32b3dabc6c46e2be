#include "e2e/control-plane/registry/pod_admission.h"

#include <optional>
#include <string>
#include <utility>

#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kPriorityClasses = "scheduling.k8s.io/priorityclasses";

StatusError refused(const Json& pod, const std::string& why) {
  std::string name = stringAt(pod, {"metadata", "name"});
  if (name.empty()) name = stringAt(pod, {"metadata", "generateName"});
  return forbidden("", "pods", name, why);
}

std::optional<Json> defaultClass(const Store& store) {
  std::optional<Json> chosen;
  for (const ObjectPtr& stored : store.list(kPriorityClasses).objects) {
    Json candidate = stored->parse();
    if (!candidate.value("globalDefault", false)) continue;
    if (!chosen || candidate["value"] < (*chosen)["value"]) chosen = std::move(candidate);
  }
  return chosen;
}

}  // namespace

void admitPod(Json& pod, const Store& store) {
  if (!pod.contains("spec") || !pod["spec"].is_object()) return;  // validation says so
  Json& spec = pod["spec"];
  const std::string className = stringAt(spec, {"priorityClassName"});
  std::optional<Json> priorityClass;
  if (className.empty()) {
    priorityClass = defaultClass(store);
  } else {
    const ObjectPtr stored = store.get(kPriorityClasses, "", className);
    if (!stored) throw refused(pod, "no PriorityClass with name " + className + " was found");
    priorityClass = stored->parse();
  }
  const Json priority = priorityClass ? (*priorityClass)["value"] : Json(0);
  if (spec.contains("priority") && spec["priority"] != priority) {
    throw refused(pod, "the integer value of priority (" + spec["priority"].dump() +
                           ") must not be provided in pod spec; priority admission controller "
                           "computed " +
                           priority.dump() + " from the given PriorityClass name");
  }
  spec["priority"] = priority;
  if (priorityClass) spec["priorityClassName"] = (*priorityClass)["metadata"]["name"];
  if (!spec.contains("preemptionPolicy")) {
    spec["preemptionPolicy"] =
        priorityClass ? priorityClass->value("preemptionPolicy", "PreemptLowerPriority")
                      : "PreemptLowerPriority";
  }

  std::string account = stringAt(spec, {"serviceAccountName"});
  if (account.empty()) account = "default";
  const std::string ns = stringAt(pod, {"metadata", "namespace"});
  if (!store.get("serviceaccounts", ns, account)) {
    throw refused(pod, "error looking up service account " + ns + "/" + account +
                           ": serviceaccount \"" + account + "\" not found");
  }
  spec["serviceAccountName"] = account;
}

}  // namespace pointsman::e2e
