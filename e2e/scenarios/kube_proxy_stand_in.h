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

// YAML of a DaemonSet kube-system/kube-proxy, which has its configuration by flags, and whose Pods
// have in their nodes' kernels what kube-proxy has. Their readiness is that of these rules.
// (kube-proxy itself is privileged.)
std::string KubeProxyYaml(const KubeProxyStandIn& kube_proxy);

// The file of a kube-proxy as kubeadm writes it and people change it: with comments, and with
// fields that nothing here knows.
std::string KubeProxyFileText(const std::string& mode);

// YAML of a kube-proxy as kubeadm installs it: the ConfigMap kube-system/kube-proxy with that file
// and the DaemonSet of that name, whose Pods read it at their start. What a real one reads of the
// API is another ConfigMap, `services` (kube_proxy_process.h, ParseProxiedServices). Ready is a Pod
// when its rules are written and its servers are up. (kubeadm's has no readiness probe.)
std::string KubeadmKubeProxyYaml(const std::string& file, const std::string& services);

// The same with the real program, which reads the API itself, of the API server at that URL.
// (kubeadm's is privileged.)
std::string RealKubeProxyYaml(const std::string& file, const std::string& api_server);

}  // namespace pointsman::e2e
