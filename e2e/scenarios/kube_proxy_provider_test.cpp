// A stock kube-proxy is given another mode with kubectl, node by node, while clients send
// (docs/kube-proxy-provider.md): what kubeadm installs is there before and after, and nothing of
// Pointsman's is left in it.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "e2e/scenarios/kube_proxy_stand_in.h"
#include "e2e/scenarios/scenario_fixture.h"
#include "e2e/scenarios/workload.h"

namespace pointsman::e2e {
namespace {

using kube::Json;
using std::chrono_literals::operator""s;
using ::testing::HasSubstr;
namespace resources = kube::resources;

constexpr const char* kKubeSystem = "kube-system";
constexpr const char* kLabel = "pointsman.io/kube-proxy-revision";

std::string NameOf(const Json& object) {
  return object.at("metadata").at("name");
}

class KubeProxyProviderTest : public ScenarioTest {
 protected:
  static constexpr auto kPatience = 180s;  // for what never comes

  void TearDown() override {
    if (world_ != nullptr && HasFailure()) {
      for (const Node& node : world_->cluster().nodes()) {
        const ExecResult logs =
            node.Exec({"sh", "-c",
                       "tail -n 40 /var/log/*kube-proxy*.log; dmesg | tail; ipvsadm -Sn; "
                       "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"});
        std::printf("---- %s\n%s%s\n", node.name().c_str(), logs.out.c_str(), logs.error.c_str());
      }
      for (const std::vector<std::string>& what :
           {std::vector<std::string>{"-n", kKubeSystem, "get", "pods,ds,cm", "-o", "yaml"},
            std::vector<std::string>{"get", "pxc,npx", "-o", "yaml"}})
        std::printf("%s\n", world_->cluster().Kubectl(what).out.c_str());
    }
    ScenarioTest::TearDown();
  }

  // A cluster with a kube-proxy in mode iptables, which serves a Service, and with Pointsman.
  void MakeCluster(const std::vector<std::string>& nodes) {
    WorldOptions options;
    options.kubelets = true;
    START_OR_RETURN(StartWorld(nodes, std::move(options)));
    world_->Apply(WorkloadYaml({8080}) + WebServiceYaml() + ClientOfNode2());
    world_->MustKubectl({"rollout", "status", "--timeout=180s", "deployment/web"}, "", 190s);
    world_->MustKubectl(
        {"wait", "--for=condition=Ready", "--timeout=180s", "pod/client", "pod/client-2"}, "",
        190s);
    world_->Apply(KubeadmKubeProxyYaml(KubeProxyFileText("iptables"), ServedServices()));
    world_->MustKubectl(
        {"-n", kKubeSystem, "rollout", "status", "--timeout=180s", "daemonset/kube-proxy"}, "",
        kPatience + 10s);
    world_->Install("overlays/kube-proxy-provider");
    before_ = KubeProxySet();
    for (const Node& node : world_->cluster().nodes())
      EXPECT_THAT(InKernel(node), testing::ElementsAre("iptables")) << node.name();
  }
  static std::string ClientOfNode2() {
    return R"(
---
apiVersion: v1
kind: Pod
metadata: {name: client-2}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 0
  containers:
    - {name: client, image: pointsman.io/traffic:1, command: [sleep, infinity]}
)";
  }
  // What a kube-proxy would read of the API now.
  std::string ServedServices() {
    const std::vector<Json> slices = world_->api().List(resources::kEndpointSlices, "");
    Json services = Json::array();
    for (const Json& service : world_->api().List(resources::kServices, "")) {
      for (const Json& port : service.at("spec").at("ports")) {
        const std::string port_name = port.value("name", "");
        Json endpoints = Json::array();
        for (const Json& slice : slices) {
          if (slice.at("metadata").value("/labels/kubernetes.io~1service-name"_json_pointer, "") ==
              NameOf(service))
            AddEndpoints(slice, port_name, endpoints);
        }
        std::string protocol = port.at("protocol");
        for (char& c : protocol)
          c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        services.push_back({{"name", service.at("metadata").at("namespace").get<std::string>() +
                                         "/" + NameOf(service)},
                            {"portName", port_name},
                            {"protocol", protocol},
                            {"clusterIP", service.at("spec").at("clusterIP")},
                            {"port", port.at("port")},
                            {"nodePort", port.value("nodePort", 0)},
                            {"endpoints", std::move(endpoints)}});
      }
    }
    return services.dump(1);
  }
  static void AddEndpoints(const Json& slice, const std::string& port_name, Json& endpoints) {
    for (const Json& port : slice.at("ports")) {
      if (port.value("name", "") != port_name) continue;
      for (const Json& endpoint : slice.at("endpoints")) {
        for (const Json& address : endpoint.at("addresses"))
          endpoints.push_back(
              fmt::format("{}:{}", address.get<std::string>(), port.at("port").get<int>()));
      }
    }
  }

  // Modes whose rules of kube-proxy's are in that kernel.
  static std::vector<std::string> InKernel(const Node& node) {
    std::vector<std::string> modes;
    const auto has = [&](const std::vector<std::string>& tool, const char* sign) {
      const ExecResult shown = node.Exec(tool);
      return shown.ok() && shown.out.find(sign) != std::string::npos;
    };
    // In mode ipvs there are chains, too, but none of a Service.
    if (has({"iptables-legacy-save"}, ":KUBE-SVC-") || has({"iptables-nft-save"}, ":KUBE-SVC-") ||
        has({"iptables-legacy-save"}, ":KUBE-NODEPORTS"))
      modes.emplace_back("iptables");
    if (has({"ipvsadm", "-Sn"}, "-A -t 10.96.1.1:80") || has({"ipset", "list", "-n"}, "KUBE-") ||
        has({"ip", "link", "show", "kube-ipvs0"}, "kube-ipvs0"))
      modes.emplace_back("ipvs");
    if (has({"nft", "list", "tables"}, "table ip kube-proxy")) modes.emplace_back("nftables");
    return modes;
  }

  Json KubeProxySet() {
    return world_->api().Get(resources::kDaemonSets, kKubeSystem, "kube-proxy");
  }
  // Without what its controller says of it.
  static Json AsWritten(Json object) {
    object.erase("status");
    for (const char* field : {"resourceVersion", "managedFields"})
      object["metadata"].erase(field);
    return object;
  }
  Json KubeProxyMap() {
    return world_->api().Get(resources::kConfigMaps, kKubeSystem, "kube-proxy");
  }
  std::string FileText() { return KubeProxyMap().at("data").at("config.conf"); }
  // Pods of kube-proxy's that have ever been started on the node: each has a log of its own there.
  static size_t PodsSoFar(const Node& node) {
    std::istringstream lines(
        node.Check({"sh", "-c", "ls /var/log/ | grep '^kube-system_kube-proxy-.*[.]log$'"}));
    std::set<std::string> names;
    for (std::string line; std::getline(lines, line);)
      names.insert(line);
    return names.size();
  }
  void ExpectPods(size_t on_each_node) {
    for (const Node& node : world_->cluster().nodes())
      EXPECT_EQ(PodsSoFar(node), on_each_node) << node.name();
    const auto pods = KubeProxyPods();
    EXPECT_EQ(pods.size(), world_->cluster().nodes().size());
    for (const Json& pod : pods)
      EXPECT_EQ(pod.value("/status/containerStatuses/0/restartCount"_json_pointer, -1), 0)
          << pod.dump(1);
  }
  std::vector<Json> KubeProxyPods() {
    std::vector<Json> pods;
    for (Json& pod : world_->api().List(resources::kPods, kKubeSystem)) {
      if (pod.at("metadata").value("/labels/k8s-app"_json_pointer, "") == "kube-proxy")
        pods.push_back(std::move(pod));
    }
    return pods;
  }

  // -9. Its Pod starts it again, with the file that it has.
  void KillKubeProxy(const char* node) {
    world_->cluster().node(node).Check({"sh", "-c", "kill -9 $(pidof pointsman-neighbour)"});
    const auto is_back = [&] {
      const auto pods = KubeProxyPods();
      return std::any_of(pods.begin(), pods.end(), [&](const Json& pod) {
        const Json status = pod.value("/status/containerStatuses/0"_json_pointer, Json::object());
        return pod.at("spec").value("nodeName", "") == node &&
               status.value("restartCount", 0) == 1 && status.value("ready", false);
      });
    };
    world_->Await(fmt::format("kube-proxy is back on {}", node), is_back, kPatience,
                  [&] { return Json(KubeProxyPods()).dump(1); });
  }

  void Apply(const std::string& mode, const std::string& more = "") {
    world_->Apply(fmt::format(R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata: {{name: cluster}}
spec:
  provider: KubeProxy
  mode: {}
  rollout: {{canary: {{nodes: 0}}, minReady: 0s, maxUnavailable: 1{}}}
)",
                              mode, more));
  }
  std::string ReasonOf(const char* type) {
    for (const Json& condition : world_->ProxyConfiguration("cluster").value(
             "/status/conditions"_json_pointer, Json::array())) {
      if (condition.at("type") == type) return condition.at("reason");
    }
    return "";
  }
  // What the API has of Pointsman's in kube-proxy's matters; "": nothing, but for ConfigMaps of
  // revisions that Pods have been made with.
  std::string LeftInApi() {
    std::string left;
    const std::vector<Json> pods = KubeProxyPods();
    for (const Json& map : world_->api().List(resources::kConfigMaps, kKubeSystem)) {
      const bool used = std::any_of(pods.begin(), pods.end(), [&](const Json& pod) {
        return pod.at("spec").at("volumes").dump().find('"' + NameOf(map) + '"') !=
               std::string::npos;
      });
      if (!used && NameOf(map).find("pointsman") != std::string::npos)
        left += fmt::format("ConfigMap {}, ", NameOf(map));
    }
    for (const Json& set : world_->api().List(resources::kDaemonSets, kKubeSystem)) {
      if (NameOf(set) != "kube-proxy") left += fmt::format("DaemonSet {}, ", NameOf(set));
    }
    for (const Json& node : world_->api().List(resources::kNodes, "")) {
      if (node.at("metadata").value("labels", Json::object()).contains(kLabel))
        left += fmt::format("label of {}, ", NameOf(node));
    }
    const Json set = KubeProxySet();
    for (const auto& [name, value] : set.at("metadata").at("annotations").items()) {
      if (name.starts_with("pointsman.io/")) left += fmt::format("annotation {}, ", name);
    }
    for (const Json& pod : pods) {
      if (pod.at("spec").value("nodeName", "").empty())
        left += fmt::format("{} waits, ", NameOf(pod));
    }
    return left;
  }
  // The rollout is complete, and has become the cluster's own: no more and no less than what
  // kubeadm installed, but for `text`.
  void AwaitOwn(const std::string& mode, const std::string& text) {
    world_->AwaitRollout("cluster", kPatience);
    world_->AwaitProgress(
        "the revision is the cluster's own",
        [&]() -> Progress {
          Progress progress{LeftInApi()};
          progress.done = progress.state.empty() && FileText() == text;
          return progress;
        },
        kPatience, [&] { return world_->RolloutEvidence(); });
    EXPECT_EQ(FileText(), text);
    const Json set = KubeProxySet();
    EXPECT_EQ(set.at("spec"), before_.at("spec"));
    EXPECT_EQ(set.at("metadata").at("annotations"), before_.at("metadata").at("annotations"));
    EXPECT_EQ(set.at("metadata").at("uid"), before_.at("metadata").at("uid"));
    for (const Json& pod : KubeProxyPods()) {
      EXPECT_EQ(pod.at("metadata").at("ownerReferences").at(0).at("uid"),
                set.at("metadata").at("uid"));
    }
    world_->MustKubectl(
        {"-n", kKubeSystem, "rollout", "status", "--timeout=180s", "daemonset/kube-proxy"}, "",
        kPatience + 10s);
    for (const Node& node : world_->cluster().nodes())
      world_->AwaitMode(node.name(), mode, kPatience);
  }
  // What the former mode left goes when nothing needs it any more.
  void AwaitOnly(const std::string& mode) {
    for (const Node& node : world_->cluster().nodes()) {
      const auto modes = [&] { return InKernel(node); };
      world_->Await(
          fmt::format("{} has rules of mode {} alone", node.name(), mode),
          [&] { return modes() == std::vector{mode}; }, kPatience,
          [&] {
            return fmt::format("{}\n{}", fmt::join(modes(), ", "), world_->RolloutEvidence());
          });
    }
  }

  // From a Pod of each node.
  using Loads = std::vector<World::Load>;
  Loads StartLoads(int streams = 5) {
    const std::vector<std::string> service = {"10.96.1.1:80"};
    Loads loads;
    for (const auto& [node, pod] :
         {std::pair("node-1", "default_client"), std::pair("node-2", "default_client-2")}) {
      loads.push_back(
          world_->StartLoad(world_->cluster().node(node), pod, service, 20, "tcp", streams, "20s"));
    }
    for (const World::Load& load : loads)
      world_->AwaitLoadRunning(load);
    return loads;
  }
  void ExpectCleanEnd(const Loads& loads, const std::string& when) {
    for (const World::Load& load : loads)
      ExpectClean(world_->StopLoad(load), load.node + ", " + when);
  }

  Json before_;  // kube-proxy's DaemonSet
};

// The one that kube-proxy removes its old rules for before it writes the new ones.
TEST_F(KubeProxyProviderTest, FromIptablesToNftablesStreamsGoOn) {
  START_OR_RETURN(MakeCluster({"netns", "netns"}));
  const std::string iptables = KubeProxyFileText("iptables");
  EXPECT_EQ(FileText(), iptables);
  const Loads loads = StartLoads();
  Apply("nftables");
  AwaitOwn("nftables", KubeProxyFileText("nftables"));
  AwaitOnly("nftables");
  ExpectPods(2);
  // Whoever connected while kube-proxy restarted may not have got through; nobody was cut off.
  for (const World::Load& load : loads) {
    const LoadReport report = world_->StopLoad(load);
    std::printf("%s, meanwhile: %s\n", load.node.c_str(), report.Summary().c_str());
    EXPECT_EQ(report.Streams(), 5);
    EXPECT_EQ(report.BrokenStreams(), 0) << report.json.dump(1);
    EXPECT_LT(report.Failed(), report.Succeeded()) << report.json.dump(1);
    const Json failures = report.json.at("connections").at("failures");
    for (const auto& [kind, count] : failures.items())
      EXPECT_TRUE(kind == "timeout" || kind == "unreachable" || kind == "refused") << failures;
  }
  // A Pod that is made anew reads the cluster's own ConfigMap, and nobody needs that of the
  // revision any more.
  const Loads meanwhile = StartLoads();
  KillKubeProxy("node-1");
  world_->MustKubectl({"-n", kKubeSystem, "rollout", "restart", "daemonset/kube-proxy"});
  world_->MustKubectl(
      {"-n", kKubeSystem, "rollout", "status", "--timeout=180s", "daemonset/kube-proxy"}, "",
      kPatience + 10s);
  const auto maps = [&] {
    return world_->MustKubectl({"-n", kKubeSystem, "get", "configmaps", "-o", "name"});
  };
  world_->Await(
      "the ConfigMap of the revision is gone",
      [&] { return maps().find("pointsman") == std::string::npos; }, kPatience, maps);
  ExpectPods(3);
  ExpectCleanEnd(meanwhile, "in mode nftables, while kube-proxy restarts");

  world_->MustKubectl({"delete", "pxc", "cluster", "--timeout=180s"}, "", 190s);
  EXPECT_EQ(FileText(), KubeProxyFileText("nftables"));
  EXPECT_EQ(LeftInApi(), "");
  ExpectPods(3);
  ExpectCleanEnd(StartLoads(), "without Pointsman");
}

TEST_F(KubeProxyProviderTest, FromIptablesToIpvsAndBackNothingFails) {
  START_OR_RETURN(MakeCluster({"uml", "uml"}));
  // This kernel's nf_tables do no NAT.
  const std::string untouched = KubeProxyMap().at("metadata").at("resourceVersion");
  Apply("nftables");
  world_->Await(
      "the preflight has failed", [&] { return ReasonOf("Progressing") == "PreflightFailed"; },
      kPatience, [&] { return world_->ProxyConfiguration("cluster").dump(1); });
  EXPECT_EQ(ReasonOf("PreflightPassed"), "NodesCannotRunMode");
  EXPECT_EQ(KubeProxyMap().at("metadata").at("resourceVersion"), untouched);
  EXPECT_EQ(AsWritten(KubeProxySet()), AsWritten(before_));
  EXPECT_EQ(LeftInApi(), "");

  Loads loads = StartLoads();
  Apply("ipvs");
  const auto bound = [&] {
    const auto nodes = world_->api().List(resources::kNodes, "");
    return std::count_if(nodes.begin(), nodes.end(), [](const Json& node) {
      return node.at("metadata").value("labels", Json::object()).contains(kLabel);
    });
  };
  world_->Await(
      "a node is bound", [&] { return bound() > 0; }, kPatience,
      [&] { return world_->RolloutEvidence(); });
  // Both of them: the one that leads, and the one that would.
  for (const Node& node : world_->cluster().nodes())
    node.Exec({"sh", "-c", "kill -9 $(pidof pointsman-operator)"});
  AwaitOwn("ipvs", KubeProxyFileText("ipvs"));
  AwaitOnly("ipvs");
  ExpectPods(2);
  KillKubeProxy("node-1");
  ExpectCleanEnd(loads, "from iptables to ipvs");

  // What was found is the first revision. Streams through IPVS would be waited for, and so are new
  // connections from ports of clients that it remembers: what it has goes when nobody connects.
  loads = StartLoads(0);
  Apply("ipvs", ", rollbackTo: 1");
  AwaitOwn("iptables", KubeProxyFileText("iptables"));
  ExpectPods(3);
  ExpectCleanEnd(loads, "from ipvs to iptables");
  AwaitOnly("iptables");
  ExpectCleanEnd(StartLoads(), "in mode iptables again");
}

}  // namespace
}  // namespace pointsman::e2e
