// What plays kube-proxy's part on a test cluster with kubelets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pointsman::e2e {

struct KubeProxyStandIn {
  // The one Service that it serves, on port 80 and this node port.
  std::string cluster_ip;
  uint16_t node_port = 0;
  std::vector<std::string> endpoints;  // "10.244.1.2:8080"
  std::string mode;                    // "": ipvs where the kernel can, else iptables
};

// YAML of a DaemonSet kube-system/kube-proxy whose Pods have in their nodes' kernels what
// kube-proxy has. Their readiness is that of these rules. (kube-proxy itself is privileged.)
std::string KubeProxyYaml(const KubeProxyStandIn& kube_proxy);

}  // namespace pointsman::e2e
