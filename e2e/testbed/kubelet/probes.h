#pragma once

#include <nlohmann/json.hpp>

#include "e2e/testbed/kubelet/local_pod.h"

namespace pointsman::e2e {

// The probes of a Pod's running containers. Used by one thread. Throws std::invalid_argument for a
// probe that is not supported here.
class Probes {
 public:
  explicit Probes(const KubeletNode& context) : context_(context) {}

  void Readiness(const LocalPod& pod, const nlohmann::json& container_spec,
                 LocalContainer& container) const;
  // Ends a container that fails its probe. True: it did now.
  bool Liveness(const LocalPod& pod, const nlohmann::json& container_spec,
                LocalContainer& container) const;

 private:
  bool Succeeds(const LocalPod& pod, const nlohmann::json& container_spec, const char* kind) const;

  const KubeletNode context_;
};

}  // namespace pointsman::e2e
