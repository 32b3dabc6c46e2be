#include "e2e/control-plane/registry/pod_admission.h"

#include <optional>
#include <string>
#include <utility>

#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kPriorityClasses = "scheduling.k8s.io/priorityclasses";

StatusError Refused(const Json& pod, const std::string& why) {
  std::string name = StringAt(pod, {"metadata", "name"});
  if (name.empty()) name = StringAt(pod, {"metadata", "generateName"});
  return Forbidden("", "pods", name, why);
}

std::optional<Json> DefaultClass(const Store& store) {
  std::optional<Json> chosen;
  for (const ObjectPtr& stored : store.List(kPriorityClasses).objects) {
    Json candidate = stored->Parse();
    if (!candidate.value("globalDefault", false)) continue;
    if (!chosen || candidate["value"] < (*chosen)["value"]) chosen = std::move(candidate);
  }
  return chosen;
}

}  // namespace

void AdmitPod(Json& pod, const Store& store) {
  if (!pod.contains("spec") || !pod["spec"].is_object()) return;  // validation says so
  Json& spec = pod["spec"];
  const std::string class_name = StringAt(spec, {"priorityClassName"});
  std::optional<Json> priority_class;
  if (class_name.empty()) {
    priority_class = DefaultClass(store);
  } else {
    const ObjectPtr stored = store.Get(kPriorityClasses, "", class_name);
    if (!stored) throw Refused(pod, "no PriorityClass with name " + class_name + " was found");
    priority_class = stored->Parse();
  }
  const Json priority = priority_class ? (*priority_class)["value"] : Json(0);
  if (spec.contains("priority") && spec["priority"] != priority) {
    throw Refused(pod, "the integer value of priority (" + spec["priority"].dump() +
                           ") must not be provided in pod spec; priority admission controller "
                           "computed " +
                           priority.dump() + " from the given PriorityClass name");
  }
  spec["priority"] = priority;
  if (priority_class) spec["priorityClassName"] = (*priority_class)["metadata"]["name"];
  if (!spec.contains("preemptionPolicy")) {
    spec["preemptionPolicy"] =
        priority_class ? priority_class->value("preemptionPolicy", "PreemptLowerPriority")
                       : "PreemptLowerPriority";
  }

  std::string account = StringAt(spec, {"serviceAccountName"});
  if (account.empty()) account = "default";
  const std::string ns = StringAt(pod, {"metadata", "namespace"});
  if (!store.Get("serviceaccounts", ns, account)) {
    throw Refused(pod, "error looking up service account " + ns + "/" + account +
                           ": serviceaccount \"" + account + "\" not found");
  }
  spec["serviceAccountName"] = account;
}

}  // namespace pointsman::e2e
