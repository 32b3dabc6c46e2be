#include "e2e/scenarios/kube_proxy_stand_in.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace pointsman::e2e {

std::string KubeProxyYaml(const KubeProxyStandIn& kube_proxy) {
  std::string args = fmt::format("--cluster-ip={}, --port=80, --node-port={}",
                                 kube_proxy.cluster_ip, kube_proxy.node_port);
  for (const std::string& endpoint : kube_proxy.endpoints)
    args += ", --endpoint=" + endpoint;
  if (!kube_proxy.mode.empty()) args += ", --mode=" + kube_proxy.mode;
  return fmt::format(R"(
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: kube-proxy, namespace: kube-system}}
spec:
  selector: {{matchLabels: {{k8s-app: kube-proxy}}}}
  updateStrategy: {{type: RollingUpdate}}
  template:
    metadata: {{labels: {{k8s-app: kube-proxy}}}}
    spec:
      hostNetwork: true
      automountServiceAccountToken: false
      tolerations: [{{operator: Exists}}]
      containers:
        - name: kube-proxy
          image: kube-proxy
          command: [pointsman-neighbour]
          args: [kube-proxy, --node-ip=$(NODE_IP), --ready-port=10299, {}]
          env: [{{name: NODE_IP, valueFrom: {{fieldRef: {{fieldPath: status.hostIP}}}}}}]
          readinessProbe: {{tcpSocket: {{port: 10299}}, periodSeconds: 1}}
          securityContext: {{capabilities: {{add: [NET_ADMIN, NET_RAW, SYS_MODULE]}}}}
          volumeMounts:
            - {{name: modules, mountPath: /lib/modules, readOnly: true}}
            - {{name: xtables-lock, mountPath: /run/xtables.lock}}
            - {{name: proc-sys-net, mountPath: /proc/sys/net}}
      volumes:
        - {{name: modules, hostPath: {{path: /lib/modules}}}}
        - {{name: xtables-lock, hostPath: {{path: /run/xtables.lock, type: FileOrCreate}}}}
        - {{name: proc-sys-net, hostPath: {{path: /proc/sys/net}}}}
)",
                     args);
}

std::string KubeProxyFileText(const std::string& mode) {
  return fmt::format(R"(apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf  # see the other key
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
# Asked for by the database's people.
conntrack:
  maxPerCore: 0
  tcpEstablishedTimeout: 2h
healthzBindAddress: ""
iptables:
  masqueradeAll: false
  minSyncPeriod: 0s
kind: KubeProxyConfiguration
metricsBindAddress: ""
mode: "{}"  # decided in spring
ofAVersionToCome: {{flavours: [strange, charmed], spin: 0.5}}
showHiddenMetricsForVersion: ""
)",
                     mode);
}

namespace {

std::string ConfigMapYaml(const char* name, nlohmann::json data) {
  return nlohmann::json{{"apiVersion", "v1"},
                        {"kind", "ConfigMap"},
                        {"metadata", {{"name", name}, {"namespace", "kube-system"}}},
                        {"data", std::move(data)}}
             .dump() +
         "\n---\n";
}

// `container`: what differs, as fields of the container; `mounts` and `volumes`: further ones.
std::string KubeadmDaemonSetYaml(const char* container, const char* mounts, const char* volumes) {
  return fmt::format(R"(
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: kube-proxy, namespace: kube-system, labels: {{k8s-app: kube-proxy}}}}
spec:
  selector: {{matchLabels: {{k8s-app: kube-proxy}}}}
  updateStrategy: {{type: RollingUpdate, rollingUpdate: {{maxUnavailable: 1}}}}
  template:
    metadata: {{labels: {{k8s-app: kube-proxy}}}}
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      nodeSelector: {{kubernetes.io/os: linux}}
      tolerations: [{{operator: Exists}}]
{}
          securityContext: {{capabilities: {{add: [NET_ADMIN, NET_RAW, SYS_MODULE]}}}}
          volumeMounts:
            - {{name: kube-proxy, mountPath: /var/lib/kube-proxy}}
            - {{name: lib-modules, mountPath: /lib/modules, readOnly: true}}
            - {{name: xtables-lock, mountPath: /run/xtables.lock}}
            - {{name: proc-sys-net, mountPath: /proc/sys/net}}
{}      volumes:
        - {{name: kube-proxy, configMap: {{name: kube-proxy}}}}
        - {{name: lib-modules, hostPath: {{path: /lib/modules}}}}
        - {{name: xtables-lock, hostPath: {{path: /run/xtables.lock, type: FileOrCreate}}}}
        - {{name: proc-sys-net, hostPath: {{path: /proc/sys/net}}}}
{})",
                     container, mounts, volumes);
}

}  // namespace

std::string KubeadmKubeProxyYaml(const std::string& file, const std::string& services) {
  return ConfigMapYaml("kube-proxy", {{"config.conf", file},
                                      {"kubeconfig.conf", "apiVersion: v1\nkind: Config\n"}}) +
         ConfigMapYaml("kube-proxy-services", {{"services.json", services}}) +
         KubeadmDaemonSetYaml(
             R"(      automountServiceAccountToken: false
      containers:
        - name: kube-proxy
          image: kube-proxy:v1.35.0
          command: [pointsman-neighbour]
          args: [kube-proxy, --config=/var/lib/kube-proxy/config.conf,
                 --services=/var/lib/kube-proxy-services/services.json, --node-ip=$(NODE_IP), --ready-port=10299]
          env: [{name: NODE_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]
          readinessProbe: {tcpSocket: {port: 10299}, periodSeconds: 1})",
             "            - {name: services, mountPath: /var/lib/kube-proxy-services}\n",
             "        - {name: services, configMap: {name: kube-proxy-services}}\n");
}

std::string RealKubeProxyYaml(const std::string& file, const std::string& api_server) {
  return fmt::format(R"(
apiVersion: v1
kind: ServiceAccount
metadata: {{name: kube-proxy, namespace: kube-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: kubeadm:node-proxier}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node-proxier}}
subjects: [{{kind: ServiceAccount, name: kube-proxy, namespace: kube-system}}]
---
{}{})",
                     ConfigMapYaml("kube-proxy", {{"config.conf", file},
                                                  {"kubeconfig.conf", fmt::format(R"(apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: {}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
)",
                                                                                  api_server)}}),
                     KubeadmDaemonSetYaml(R"(      serviceAccountName: kube-proxy
      containers:
        - name: kube-proxy
          image: kube-proxy
          command: [kube-proxy]
          args: [--config=/var/lib/kube-proxy/config.conf, --hostname-override=$(NODE_NAME)]
          env: [{name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}])",
                                          "", ""));
}

}  // namespace pointsman::e2e
