// Plays what a cluster does for kube-proxy, a step at a time: the DaemonSet controller (adoption
// and rolling updates, too), the garbage collector, the scheduler's anti-affinity and the kubelets.
// At no time may two Pods be bound to a node.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kube/client/client.h"

namespace pointsman::op {

class KubeProxyStage {
 public:
  // kubeadm's kube-proxy with that file.
  KubeProxyStage(kube::Client& client, const std::string& file);

  void Step();

  kube::Json Set(const std::string& name = "kube-proxy");
  std::string File();  // what the cluster's own ConfigMap says
  kube::Json ConfigMap(const std::string& name = "kube-proxy");
  bool HasConfigMap(const std::string& name);
  std::vector<kube::Json> RevisionSets();
  const kube::Json& first_set() const { return first_set_; }
  // Also from another thread. What a Pod that is Ready on the node read as mode when it started;
  // "": there is none.
  std::string Mode(const std::string& node);
  // Nodes without such a Pod.
  size_t Down();
  const std::map<std::string, int>& starts() const { return starts_; }  // by node
  // Of the Pods that are bound, by node.
  std::map<std::string, std::string> BoundPods();

 private:
  void CollectGarbage(const std::vector<kube::Json>& sets);
  void Control(const kube::Json& set);
  void Roll(const kube::Json& set, const std::vector<kube::Json>& pods);
  void CreatePod(const kube::Json& set, const std::string& node);
  void StartPods();
  std::vector<kube::Json> Pods();
  std::vector<std::string> Nodes();
  void Delete(const kube::Json& pod);

  kube::Client& client_;
  kube::Json first_set_;
  int serial_ = 0;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> mode_;  // by the Pod's uid, as it read it
  std::map<std::string, int> starts_;
};

}  // namespace pointsman::op
