#pragma once

#include <functional>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "e2e/testbed/kubelet/pod_volumes.h"
#include "e2e/testbed/kubelet/probes.h"

namespace pointsman::e2e {

// The Pods of one node, by namespace/name: started, restarted, reported and ended. Used by one
// thread.
class PodLifecycle {
 public:
  explicit PodLifecycle(const KubeletNode& context)
      : context_(context), volumes_(context), probes_(context) {}

  const std::map<std::string, LocalPod>& pods() const { return pods_; }
  // The Pod is so in the API now.
  void Set(const std::string& key, nlohmann::json object);
  // The Pod is no more in the API: neither may anything of it be here.
  void Forget(const std::string& key);
  // The node was booted.
  void LoseAll();
  // One step of each Pod towards what its spec wants. `tokens_wanted`: see PodVolumes. `log` gets
  // what went wrong with one of them; the others go on.
  void SyncAll(int tokens_wanted, const std::function<void(const std::string&)>& log);
  void ReportAll();

 private:
  // False: the Pod is no more.
  bool Sync(const std::string& key, LocalPod& pod, int tokens_wanted,
            const std::function<void(const std::string&)>& log);
  std::string FreeIp() const;
  void Observe(LocalContainer& container) const;
  void Bring(LocalPod& pod, int tokens_wanted, const std::function<void(const std::string&)>& log);
  void StartContainer(LocalPod& pod, const nlohmann::json& container_spec,
                      LocalContainer& container);
  bool Terminate(const std::string& key, LocalPod& pod);
  void Report(const std::string& key, LocalPod& pod) const;

  const KubeletNode context_;
  const PodVolumes volumes_;
  const Probes probes_;
  std::map<std::string, LocalPod> pods_;
};

}  // namespace pointsman::e2e
