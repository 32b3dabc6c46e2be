// What the operator knows when it plans: the objects as the API has them, and the time.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"
#include "operator/plan/kube_proxy_daemon_set.h"
#include "operator/plan/revision.h"
#include "operator/plan/revision_objects.h"
#include "operator/plan/sightings.h"

namespace pointsman::op {

// The Pods of kube-proxies have one of these labels: k8s-app as kubeadm, EKS and kops set it,
// component as AKS, GKE and RKE2.
inline constexpr std::array<const char*, 2> kKubeProxyPodLabels = {"k8s-app", "component"};
inline constexpr const char* kKubeProxyPodLabel = "kube-proxy";

// The cluster's own kube-proxy.
struct KubeProxyInput {
  std::string name;     // of the DaemonSet: "kube-system/kube-proxy"
  std::string unknown;  // why nothing of the following is known; "": it is
  std::shared_ptr<const KubeProxyDaemonSet> daemon_set;  // null: there is none
  std::vector<std::shared_ptr<const kube::Pod>> pods;    // with the labels above, in its namespace
  // For provider KubeProxy. Why nothing can be done for it, with a remedy; "": the following is
  // known.
  std::string no_provider = "nothing is known yet of what provider KubeProxy works with";
  // In kube-proxy's namespace: those that its DaemonSet can have its file from, and those of
  // revisions.
  std::vector<std::shared_ptr<const KubeProxyConfigMap>> config_maps;
  std::vector<std::shared_ptr<const KubeProxyDaemonSet>> revision_sets;
};

struct PlanInput {
  std::vector<std::shared_ptr<const kube::ProxyConfiguration>> configurations;
  std::vector<std::shared_ptr<const kube::Node>> nodes;
  std::vector<std::shared_ptr<const kube::NodeProxy>> node_proxies;
  std::vector<Revision> revisions;
  // The node agents' own, in the operator's namespace (agent_nodes.h). Empty also when the operator
  // may not read them.
  std::vector<std::shared_ptr<const kube::Pod>> agent_pods;
  std::vector<std::shared_ptr<const kube::DaemonSet>> agent_daemon_sets;
  KubeProxyInput kube_proxy;
  kube::TimePoint now{};  // to be written; may jump
  Instant instant{};      // to count by; never jumps
};

}  // namespace pointsman::op
