#include "e2e/scenarios/kube_proxy_stand_in.h"

#include <fmt/format.h>

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

}  // namespace pointsman::e2e
