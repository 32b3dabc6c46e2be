#include "e2e/testbed/kubelet/probes.h"

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include <signal.h>

namespace pointsman::e2e {

using kube::Json;

// Whether the probe of that kind succeeds now.
bool Probes::Succeeds(const LocalPod& pod, const Json& container_spec, const char* kind) const {
  const Json& probe = container_spec[kind];
  std::vector<std::string> argv = {context_.cluster.Program("pointsman-traffic"), "probe"};
  const auto port = [&](const Json& value) {
    if (value.is_number()) return std::to_string(value.get<int>());
    for (const auto& item : container_spec.value("ports", Json::array())) {
      if (item.value("name", "") == value)
        return std::to_string(item.at("containerPort").get<int>());
    }
    throw std::invalid_argument(std::string(kind) + ": no port is named " + value.dump());
  };
  if (probe.contains("httpGet")) {
    argv.push_back(probe["httpGet"].value("host", pod.ip) + ":" +
                   port(probe["httpGet"].at("port")));
    argv.insert(argv.end(), {"--http", probe["httpGet"].value("path", "/")});
  } else if (probe.contains("tcpSocket")) {
    argv.push_back(pod.ip + ":" + port(probe["tcpSocket"].at("port")));
  } else {
    throw std::invalid_argument(std::string(kind) +
                                ": only httpGet and tcpSocket are supported here");
  }
  argv.insert(argv.end(), {"--timeout", std::to_string(probe.value("timeoutSeconds", 1)) + "s"});
  return context_.node.Exec(argv).ok();
}

void Probes::Readiness(const LocalPod& pod, const Json& container_spec,
                       LocalContainer& container) const {
  if (!container_spec.contains("readinessProbe") || KubeletClock::now() < container.next_probe)
    return;
  container.ready = Succeeds(pod, container_spec, "readinessProbe");
  if (container.ready) container.backoff = std::chrono::milliseconds(100);
  // Until it is ready the next step asks again: a test does not wait for a period.
  container.next_probe =
      KubeletClock::now() +
      (container.ready
           ? std::chrono::seconds(container_spec["readinessProbe"].value("periodSeconds", 10))
           : std::chrono::seconds(0));
}

bool Probes::Liveness(const LocalPod& pod, const Json& container_spec,
                      LocalContainer& container) const {
  if (!container_spec.contains("livenessProbe")) return false;
  if (container.kill_at) {
    if (KubeletClock::now() >= *container.kill_at)
      context_.node.client().Signal(container.pid, SIGKILL);
    return false;
  }
  if (KubeletClock::now() < container.next_live_probe) return false;
  const Json& probe = container_spec["livenessProbe"];
  container.next_live_probe =
      KubeletClock::now() + std::chrono::seconds(probe.value("periodSeconds", 10));
  if (Succeeds(pod, container_spec, "livenessProbe")) {
    container.live_failures = 0;
    return false;
  }
  if (++container.live_failures < probe.value("failureThreshold", 3)) return false;
  context_.node.client().Signal(container.pid, SIGTERM);
  container.kill_at = KubeletClock::now() + std::chrono::seconds(pod.object.at("spec").value(
                                                "terminationGracePeriodSeconds", 30));
  return true;
}

}  // namespace pointsman::e2e
