#include "e2e/demo/from_kube_proxy.h"

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "e2e/scenarios/kube_proxy_stand_in.h"
#include "e2e/scenarios/workload.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kTimeout = "10s";  // an emulated processor may stand still for seconds

std::string TakingOver(const std::string& mode) {
  return ConfigurationYaml(mode, R"(  kubeProxy: {policy: TakeOver}
  rollout:
    canary: {nodes: 0}
    maxUnavailable: 2
    minReady: 3s
  handover:
    drainTimeout: 5s
)");
}

// The program that plays kube-proxy is told what kube-proxy reads from the API.
KubeProxyStandIn StandIn(World& world) {
  KubeProxyStandIn kube_proxy{.cluster_ip = "10.96.1.1", .node_port = 30080, .mode = "iptables"};
  for (const kube::Json& pod : world.api().List(kube::resources::kPods, "default")) {
    if (pod.at("metadata").at("name").get<std::string>().starts_with("web-"))
      kube_proxy.endpoints.push_back(pod.at("status").at("podIP").get<std::string>() + ":8080");
  }
  return kube_proxy;
}

// The first lines of each kernel that speak of kube-proxy.
void ShowKubeProxysRules(Stage& stage, const std::string& node) {
  stage.ShowOnNode(node, {"sh", "-c", "iptables-legacy-save; iptables-nft-save"}, 4,
                   "-A KUBE-SERVICES ");
}

void WatchKubeProxyReplaced(Stage& stage) {
  World& world = stage.world();
  stage.Watch(
      "kube-proxy is replaced",
      [&] {
        Progress progress;
        for (const kube::Json& condition : world.ProxyConfiguration("cluster").value(
                 "/status/conditions"_json_pointer, kube::Json::array())) {
          if (condition.at("type") != "KubeProxyReplaced") continue;
          progress.done = condition.at("status") == "True";
          progress.state = condition.at("message").get<std::string>();
        }
        return progress;
      },
      [&] { return world.RolloutEvidence(); });
}

}  // namespace

void AddNodesOfFromKubeProxy(WorldOptions& options) {
  // Only a kernel with both ip_vs and all of nf_tables can go the whole way.
  for (int i = 0; i < 2; ++i)
    options.nodes.push_back(ParseNode("vm"));
}

bool ShowFromKubeProxy(Stage& stage) {
  std::printf(
      "This takes about three minutes on two idle cores:\n"
      "  1. two machines boot, Debian's stock kernel in an emulator, and a Kubernetes API server\n"
      "  2. a DaemonSet kube-proxy writes kube-proxy's rules (mode iptables); traffic begins\n"
      "  3. one `kubectl apply` takes the nodes over in mode ipvs, one more moves them to "
      "nftables\n"
      "  4. `kubectl delete` gives them back to kube-proxy\n"
      "  5. the traffic says how many of its connections failed: none should\n");
  World& world = stage.world();
  stage.Title("Booting two machines and a Kubernetes API server");
  stage.Start();
  stage.Title("A cluster with kube-proxy: a Deployment, a Service, and kube-proxy's rules for it");
  world.Apply(WorkloadYaml({8080}) + WebServiceYaml());
  stage.WatchWorkload("default", "deployment/web");
  stage.Show({"wait", "--for=condition=Ready", "--timeout=90s", "pod/client"});
  world.Apply(KubeProxyYaml(StandIn(world)));
  stage.WatchWorkload("kube-system", "daemonset/kube-proxy");
  ShowKubeProxysRules(stage, "node-1");
  const Cluster& cluster = world.cluster();
  const std::vector<std::string> service{"10.96.1.1:80"};
  stage.StartTraffic("pod on node-1 to the Service", cluster.node("node-1"), "default_client",
                     service, 10, "tcp", 5, kTimeout);
  stage.StartTraffic("node-2 to the Service", cluster.node("node-2"), "", service, 5, "tcp", 5,
                     kTimeout);
  stage.AwaitTraffic();

  stage.Title("Installing Pointsman beside it");
  stage.Install();

  stage.Title("One `kubectl apply`: from kube-proxy to ipvs");
  stage.Apply(TakingOver("ipvs"));
  stage.WatchRollout();
  WatchKubeProxyReplaced(stage);
  stage.Show({"-n", "kube-system", "get", "daemonset", "kube-proxy"});
  ShowKubeProxysRules(stage, "node-1");
  stage.ShowOnNode("node-1", {"ipvsadm", "-Ln"}, 8);

  stage.Title("On to nftables");
  stage.Apply(TakingOver("nftables"));
  stage.WatchRollout();
  stage.Show({"get", "pxc,npx"});

  stage.Title("And back: kube-proxy serves before Pointsman goes");
  stage.Show({"delete", "pxc", "cluster", "--timeout=90s"});
  stage.Show({"-n", "kube-system", "get", "daemonset", "kube-proxy"});
  ShowKubeProxysRules(stage, "node-1");

  stage.Title("The traffic's own account");
  return stage.EndTraffic();
}

}  // namespace pointsman::e2e
