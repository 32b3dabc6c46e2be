#include "e2e/testbed/kubelet/local_pod.h"

#include <algorithm>

#include "kube/client/api_error.h"
#include "kube/time/rfc3339.h"

namespace pointsman::e2e {

using kube::Json;

std::string LocalPod::Name() const {
  return object.at("metadata").at("name");
}

std::string LocalPod::Namespace() const {
  return object.at("metadata").at("namespace");
}

bool LocalPod::OnHostNetwork() const {
  return object.at("spec").value("hostNetwork", false);
}

std::string LocalPod::NetworkName() const {
  return OnHostNetwork() ? "" : Namespace() + "_" + Name();
}

std::string LocalPod::Directory() const {
  return "/run/pods/" + object.at("metadata").at("uid").get<std::string>();
}

std::string LocalPod::VolumesDirectory() const {
  return Directory() + "/volumes";
}

bool LocalPod::AnyRunning() const {
  return std::any_of(containers.begin(), containers.end(),
                     [](const LocalContainer& container) { return container.running; });
}

void LocalPod::Lose() {
  network = false;
  for (LocalContainer& container : containers) {
    if (container.running) ++container.restarts;
    container.running = container.ready = false;
    container.last_end = "the node was booted";
    container.next_start = {};
  }
}

std::string TimeOfNow() {
  return kube::FormatTime(std::chrono::system_clock::now());
}

Json SendBody(kube::Transport& transport, const std::string& method, const std::string& target,
              const Json& body) {
  kube::HttpRequest request;
  request.method = method;
  request.target = target;
  request.headers = {{"Content-Type", "application/json"}, {"Accept", "application/json"}};
  request.body = body.dump();
  const auto response = transport.Send(request);
  if (response.status / 100 != 2) throw kube::ApiError::FromBody(response.status, response.body);
  return Json::parse(response.body);
}

}  // namespace pointsman::e2e
