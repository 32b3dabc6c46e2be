#include "e2e/scenarios/workload.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace pointsman::e2e {

std::string WorkloadYaml(const std::vector<uint16_t>& ports) {
  return fmt::format(R"(
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 6
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 5
      automountServiceAccountToken: false
      containers:
        - name: web
          image: pointsman.io/traffic:1
          args: [--name=$(NAME), "--tcp={0}", "--udp={0}", --linger=2s]
          env: [{{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
          readinessProbe: {{tcpSocket: {{port: {1}}}, periodSeconds: 5}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
    - {{name: client, image: pointsman.io/traffic:1, command: [sleep, infinity]}}
)",
                     fmt::join(ports, ","), ports.back());
}

std::string WebServiceYaml() {
  return R"(
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.1.1
  selector: {app: web}
  ports:
    - {name: tcp, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
    - {name: udp, protocol: UDP, port: 80, targetPort: 8080, nodePort: 30080}
)";
}

}  // namespace pointsman::e2e
