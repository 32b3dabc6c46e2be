#include "e2e/testbed/kubelet/pod_lifecycle.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <utility>

#include <signal.h>
#include <spdlog/spdlog.h>

#include "e2e/testbed/kubelet/pod_spec.h"
#include "e2e/testbed/kubelet/pod_status.h"
#include "kube/client/api_error.h"

namespace pointsman::e2e {
namespace {

// A kubelet's is 5 minutes, which no test waits for.
constexpr std::chrono::seconds kMaxBackoff{10};

}  // namespace

using kube::Json;

void PodLifecycle::Set(const std::string& key, Json object) {
  // The same name with another uid is another Pod: the old one has been removed from the API
  // already.
  const auto found = pods_.find(key);
  if (found != pods_.end() &&
      found->second.object.at("metadata").at("uid") != object.at("metadata").at("uid"))
    Forget(key);
  pods_[key].object = std::move(object);
}

void PodLifecycle::LoseAll() {
  for (auto& [key, pod] : pods_)
    pod.Lose();
}

void PodLifecycle::SyncAll(int tokens_wanted, const std::function<void(const std::string&)>& log) {
  for (auto it = pods_.begin(); it != pods_.end();) {
    const auto current = it++;
    try {
      if (!Sync(current->first, current->second, tokens_wanted, log)) pods_.erase(current);
    } catch (const std::exception& error) {
      log(current->first + ": " + error.what());
    }
  }
}

void PodLifecycle::ReportAll() {
  for (auto& [key, pod] : pods_)
    Report(key, pod);
}

std::string PodLifecycle::FreeIp() const {
  const std::string prefix =
      context_.node.pod_cidr().substr(0, context_.node.pod_cidr().rfind('.')) + ".";
  for (int last = 2; last < 255; ++last) {
    std::string ip = prefix + std::to_string(last);
    if (std::none_of(pods_.begin(), pods_.end(),
                     [&](const auto& item) { return item.second.ip == ip; }))
      return ip;
  }
  throw std::runtime_error("no address is free in " + context_.node.pod_cidr());
}

bool PodLifecycle::Sync(const std::string& key, LocalPod& pod, int tokens_wanted,
                        const std::function<void(const std::string&)>& log) {
  if (pod.containers.empty()) {
    for (const auto& container : pod.object.at("spec").at("containers")) {
      LocalContainer local;
      local.name = container.at("name");
      pod.containers.push_back(local);
    }
    pod.ip = pod.OnHostNetwork() ? context_.node.address() : FreeIp();
    pod.started_at = TimeOfNow();
  }
  for (auto& container : pod.containers)
    Observe(container);
  if (pod.object.at("metadata").contains("deletionTimestamp")) return Terminate(key, pod);
  try {
    Bring(pod, tokens_wanted, log);
    pod.error.clear();
  } catch (const std::invalid_argument& error) {
    pod.error = error.what();
  }
  Report(key, pod);
  return true;
}

void PodLifecycle::Observe(LocalContainer& container) const {
  if (!container.running) return;
  const NodeProcessStatus status = context_.node.client().Status(container.pid);
  if (status.running) return;
  container.running = container.ready = false;
  container.last_end = status.signal != 0 ? "signal " + std::to_string(status.signal)
                                          : "exit status " + std::to_string(status.exit);
  container.next_start = KubeletClock::now() + container.backoff;
  container.backoff = std::min<std::chrono::milliseconds>(container.backoff * 2, kMaxBackoff);
  ++container.restarts;
}

void PodLifecycle::Bring(LocalPod& pod, int tokens_wanted,
                         const std::function<void(const std::string&)>& log) {
  const Json& spec = pod.object.at("spec");
  if (!spec.value("initContainers", Json::array()).empty())
    throw std::invalid_argument("spec.initContainers: not supported here");
  if (spec.value("restartPolicy", "Always") != "Always")
    throw std::invalid_argument("spec.restartPolicy: only Always is supported here");
  if (!pod.network && !pod.OnHostNetwork()) {
    context_.node.Exec(
        {"ip", "netns", "del", pod.NetworkName()});  // left by an earlier kubelet, or not there
    context_.node.AddPodNetwork(pod.NetworkName(), pod.ip);
    pod.network = true;
  }
  for (std::size_t i = 0; i < pod.containers.size(); ++i) {
    LocalContainer& container = pod.containers[i];
    if (!container.running && KubeletClock::now() >= container.next_start)
      StartContainer(pod, spec["containers"][i], container);
    if (container.running) probes_.Readiness(pod, spec["containers"][i], container);
    if (container.running && probes_.Liveness(pod, spec["containers"][i], container))
      log(pod.Name() + ": container " + container.name +
          " failed its liveness probe, and is restarted");
  }
  volumes_.RenewToken(pod, tokens_wanted);
}

void PodLifecycle::StartContainer(LocalPod& pod, const Json& container_spec,
                                  LocalContainer& container) {
  const std::string directory = pod.Directory();
  const Json object = WithApiAccess(pod.object);
  const Json& containers = object.at("spec").at("containers");
  const auto own = std::find_if(containers.begin(), containers.end(), [&](const Json& candidate) {
    return candidate.at("name") == container_spec.at("name");
  });
  const ContainerSpec spec = ResolveContainer(object, *own, volumes_.Place(pod),
                                              volumes_.ConfigMaps(pod), pod.VolumesDirectory());
  for (const NodePath& path : spec.node_paths)
    volumes_.PrepareNodePath(path);
  volumes_.Project(pod);
  const std::string file = directory + "/" + container.name + ".json";
  context_.node.client().Put(
      file, ToJson(spec, pod.object, context_.cluster.Program("x").parent_path()).dump());
  ExecOptions options;
  options.netns = pod.NetworkName();
  const std::string log =
      "/var/log/" + pod.Namespace() + "_" + pod.Name() + "_" + container.name + ".log";
  container.pid = context_.node.client().Start(
      {context_.cluster.Program("pointsman-container"), file}, log, options);
  container.running = true;
  container.started_once = true;
  container.started_at = TimeOfNow();
  container.kill_at.reset();
  container.ready = !container_spec.contains("readinessProbe");
  container.live_failures = 0;
  container.next_probe = KubeletClock::now();
  if (container_spec.contains("livenessProbe"))
    container.next_live_probe =
        KubeletClock::now() +
        std::chrono::seconds(container_spec["livenessProbe"].value("initialDelaySeconds", 0));
}

bool PodLifecycle::Terminate(const std::string& key, LocalPod& pod) {
  const Json& metadata = pod.object.at("metadata");
  const std::chrono::seconds grace(metadata.value("deletionGracePeriodSeconds", 30));
  const bool first = !pod.terminating;
  if (first) pod.terminating = KubeletClock::now();
  const bool kill_now = KubeletClock::now() - *pod.terminating >= grace && !pod.killed;
  if (pod.AnyRunning()) {
    for (auto& container : pod.containers) {
      if (container.running && first) context_.node.client().Signal(container.pid, SIGTERM);
      if (container.running && kill_now) context_.node.client().Signal(container.pid, SIGKILL);
    }
    pod.killed = pod.killed || kill_now;
    Report(key, pod);
    return true;
  }
  if (pod.network) {
    context_.node.RemovePodNetwork(pod.NetworkName());
    pod.network = false;
  }
  try {
    SendBody(context_.client.transport(), "DELETE",
             kube::resources::kPods.Path(pod.Namespace(), pod.Name()),
             {{"apiVersion", "v1"},
              {"kind", "DeleteOptions"},
              {"gracePeriodSeconds", 0},
              {"preconditions", {{"uid", metadata.at("uid")}}}});
  } catch (const kube::ApiError& error) {
    if (!error.IsNotFound() && !error.IsConflict()) throw;  // it is gone already
  }
  return false;
}

void PodLifecycle::Forget(const std::string& key) {
  const auto found = pods_.find(key);
  LocalPod& pod = found->second;
  try {
    for (auto& container : pod.containers) {
      if (container.running) context_.node.client().Signal(container.pid, SIGKILL);
    }
    if (pod.network) context_.node.RemovePodNetwork(pod.NetworkName());
  } catch (const std::exception& error) {
    spdlog::warn("kubelet of {}: removing {}: {}", context_.node.name(), key, error.what());
  }
  pods_.erase(found);
}

void PodLifecycle::Report(const std::string& key, LocalPod& pod) const {
  const Json status = PodStatus(pod, context_.node.address());
  if (status == pod.reported) return;
  try {
    context_.client.Patch(kube::resources::kPods, pod.Namespace(), pod.Name(),
                          kube::PatchType::kMerge, {{"status", status}}, "status", "kubelet");
    pod.reported = status;
  } catch (const kube::ApiError& error) {
    if (!error.IsNotFound()) throw;  // deleted meanwhile: the watch will say
    spdlog::debug("kubelet of {}: {} is gone", context_.node.name(), key);
  }
}

}  // namespace pointsman::e2e
