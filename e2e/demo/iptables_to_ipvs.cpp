#include "e2e/demo/iptables_to_ipvs.h"

#include <cstdint>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "e2e/scenarios/workload.h"

namespace pointsman::e2e {
namespace {

constexpr int kServices = 20;
constexpr uint16_t kFirstPort = 8000;  // of the pods; each Service has its own

// The servers, and Services that select them, each with a port of its own: docs/ipvs.md says why
// they should not share backends.
std::string Workload() {
  std::vector<uint16_t> ports(kServices);
  std::iota(ports.begin(), ports.end(), kFirstPort);
  std::string yaml = WorkloadYaml(ports);
  for (int i = 0; i < kServices; ++i) {
    yaml += fmt::format(R"(---
apiVersion: v1
kind: Service
metadata: {{name: web-{}}}
spec:
  type: {}
  clusterIP: 10.96.1.{}
  selector: {{app: web}}
  ports:
    - {{name: tcp, protocol: TCP, port: 80, targetPort: {}{}}}
    - {{name: udp, protocol: UDP, port: 80, targetPort: {}{}}}
)",
                        i, i == 0 ? "NodePort" : "ClusterIP", 10 + i, kFirstPort + i,
                        i == 0 ? ", nodePort: 30080" : "", kFirstPort + i,
                        i == 0 ? ", nodePort: 30080" : "");
  }
  return yaml;
}

std::string Moving(const std::string& mode) {
  return ConfigurationYaml(mode, R"(  rollout:
    canary: {nodes: 0}
    minReady: 3s
  handover:
    drainTimeout: 10s
)");
}

}  // namespace

void AddNodesOfIptablesToIpvs(WorldOptions& options) {
  for (int i = 0; i < 3; ++i)
    options.nodes.push_back(ParseNode("uml"));
}

bool ShowIptablesToIpvs(Stage& stage) {
  std::printf(
      "This takes about two minutes on two idle cores:\n"
      "  1. three nodes boot, each a Linux kernel of its own, and a Kubernetes API server\n"
      "  2. Pointsman is installed with kubectl; %d Services get mode iptables\n"
      "  3. traffic begins, and one `kubectl apply` moves all nodes to ipvs under it\n"
      "  4. the traffic says how many of its connections failed: none should\n",
      kServices);
  stage.Title("Booting three nodes (each a Linux kernel of its own) and a Kubernetes API server");
  stage.Start();
  stage.Title("Installing: the operator, and an agent on each node, run as Pods");
  stage.Install();

  stage.Title(
      fmt::format("Making a Deployment of 6 servers, and {} Services that select them", kServices));
  stage.world().Apply(Workload());
  stage.WatchWorkload("default", "deployment/web");
  stage.Show({"get", "pods", "-l", "app=web", "-o", "wide"});
  stage.Show({"get", "services", "web-0", "web-1"});
  stage.Show({"wait", "--for=condition=Ready", "--timeout=90s", "pod/client"});

  stage.Title("Services begin to work: mode iptables");
  stage.Apply(Moving("iptables"));
  stage.WatchRollout();
  std::vector<std::string> targets, node_ports;
  for (int i = 0; i < kServices; ++i)
    targets.push_back(fmt::format("10.96.1.{}:80", 10 + i));
  node_ports.push_back(stage.world().cluster().node("node-2").address() + ":30080");

  stage.Title(
      "Starting traffic: from a pod and from a node to Services, from outside to a node port");
  const Cluster& cluster = stage.world().cluster();
  stage.StartTraffic("pod on node-1 to Services", cluster.node("node-1"), "default_client", targets,
                     60, "both", 10);
  stage.StartTraffic("node-3 to Services", cluster.node("node-3"), "", targets, 30, "both", 5);
  stage.StartTraffic("outside client to a node port", cluster.outside(), "", node_ports, 20, "both",
                     5);
  stage.AwaitTraffic();
  stage.ShowOnNode("node-1",
                   {"iptables-legacy", "-w", "-t", "nat", "-nL", "POINTSMAN-IPT-SERVICES"}, 14);

  stage.Title("The move: one `kubectl apply`");
  stage.Apply(Moving("ipvs"));
  stage.WatchRollout();

  stage.Title("After it");
  stage.Show({"get", "pxc,npx"});
  std::printf("\n");
  stage.Show(
      {"get", "pxc", "cluster", "-o",
       R"(jsonpath={range .status.conditions[*]}{.type}={.status}  {.reason}: {.message}{"\n"}{end})"});
  std::printf("\n");
  stage.ShowOnNode("node-1", {"ipvsadm", "-Ln"}, 12);

  stage.Title("The traffic's own account");
  return stage.EndTraffic();
}

}  // namespace pointsman::e2e
