#pragma once

#include <cstdint>
#include <string>

#include "e2e/testbed/kubelet/local_pod.h"
#include "e2e/testbed/kubelet/pod_spec.h"

namespace pointsman::e2e {

// What a Pod's containers find in its environment and volumes: ConfigMaps, paths of the node,
// tokens. Used by one thread.
class PodVolumes {
 public:
  explicit PodVolumes(const KubeletNode& context) : context_(context) {}

  // As the API server's Service says, which only works once it is served on this node.
  PodPlace Place(const LocalPod& pod) const;
  ConfigMapData ConfigMaps(const LocalPod& pod) const;
  // Throws std::invalid_argument when it is not what the volume wants.
  void PrepareNodePath(const NodePath& path) const;
  // Writes the files of the Pod's projected volumes and ConfigMaps, as these are now; tokens are
  // renewed when 80 % of their time are over.
  void Project(LocalPod& pod) const;
  // Renews the tokens if that is due or `tokens_wanted`, a count of requests for it, has changed.
  void RenewToken(LocalPod& pod, int tokens_wanted) const;

 private:
  std::string Token(const LocalPod& pod, std::int64_t seconds) const;

  const KubeletNode context_;
};

}  // namespace pointsman::e2e
