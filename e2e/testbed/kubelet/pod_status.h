#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "e2e/testbed/kubelet/local_pod.h"

namespace pointsman::e2e {

// The status of a Pod as its node sees it. Notes in `pod` since when it is (not) ready.
nlohmann::json PodStatus(LocalPod& pod, const std::string& host_ip);

}  // namespace pointsman::e2e
