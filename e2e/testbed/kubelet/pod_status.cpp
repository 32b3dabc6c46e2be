#include "e2e/testbed/kubelet/pod_status.h"

#include <algorithm>

namespace pointsman::e2e {
namespace {

using kube::Json;

Json PodConditions(const LocalPod& pod, bool ready) {
  Json conditions = Json::array();
  const auto condition = [&](const char* type, bool status, const std::string& since) {
    Json item = {
        {"type", type}, {"status", status ? "True" : "False"}, {"lastTransitionTime", since}};
    if (!status) {
      item["reason"] = "ContainersNotReady";
      item["message"] = pod.error.empty() ? "containers with unready status" : pod.error;
    }
    conditions.push_back(item);
  };
  condition("PodScheduled", true, pod.started_at);
  condition("Initialized", true, pod.started_at);
  condition("ContainersReady", ready, pod.ready_since);
  condition("Ready", ready, pod.ready_since);
  return conditions;
}

Json ContainerStatuses(const LocalPod& pod) {
  Json statuses = Json::array();
  for (std::size_t i = 0; i < pod.containers.size(); ++i) {
    const LocalContainer& container = pod.containers[i];
    Json state;
    if (container.running) {
      state = {{"running", {{"startedAt", container.started_at}}}};
    } else {
      state = {{"waiting",
                {{"reason", !pod.error.empty()       ? "CreateContainerConfigError"
                            : container.started_once ? "CrashLoopBackOff"
                                                     : "ContainerCreating"},
                 {"message", pod.error.empty() ? container.last_end : pod.error}}}};
    }
    const std::string image = pod.object.at("spec").at("containers").at(i).value("image", "");
    statuses.push_back({{"name", container.name},
                        {"image", image},
                        {"imageID", image},
                        {"ready", container.ready},
                        {"started", container.running},
                        {"restartCount", container.restarts},
                        {"state", state}});
  }
  return statuses;
}

}  // namespace

Json PodStatus(LocalPod& pod, const std::string& host_ip) {
  const bool ready =
      pod.error.empty() && std::all_of(pod.containers.begin(), pod.containers.end(),
                                       [](const auto& container) { return container.ready; });
  if (pod.ready_since.empty() || ready != pod.was_ready) {
    pod.was_ready = ready;
    pod.ready_since = TimeOfNow();
  }
  const bool started = std::all_of(pod.containers.begin(), pod.containers.end(),
                                   [](const auto& container) { return container.started_once; });
  return {{"phase", started ? "Running" : "Pending"},
          {"hostIP", host_ip},
          {"podIP", pod.ip},
          {"podIPs", {{{"ip", pod.ip}}}},
          {"startTime", pod.started_at},
          {"conditions", PodConditions(pod, ready)},
          {"containerStatuses", ContainerStatuses(pod)}};
}

}  // namespace pointsman::e2e
