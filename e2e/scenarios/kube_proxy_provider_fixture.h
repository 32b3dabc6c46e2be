// A cluster with a stock kube-proxy as kubeadm installs it, and Pointsman with what it may do there
// (docs/kube-proxy-provider.md).
#pragma once

#include <algorithm>
#include <cctype>
#include <chrono>
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

class KubeProxyProviderFixture : public ScenarioTest {
 protected:
  static constexpr const char* kKubeSystem = "kube-system";
  static constexpr const char* kLabel = "pointsman.io/kube-proxy-revision";
  static std::string NameOf(const kube::Json& object) { return object.at("metadata").at("name"); }

  static constexpr auto kPatience = std::chrono::seconds(180);  // for what never comes

  void TearDown() override {
    if (world_ != nullptr && HasFailure()) {
      for (const Node& node : world_->cluster().nodes()) {
        const ExecResult logs =
            node.Exec({"sh", "-c",
                       "tail -n 40 /var/log/*kube-proxy*.log /var/log/*node-agent*.log; dmesg | "
                       "tail; ipvsadm -Sn; "
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

  // A cluster with a kube-proxy in that mode, which serves a Service, and with Pointsman.
  void MakeCluster(const std::vector<std::string>& nodes, const std::string& mode = "iptables") {
    WorldOptions options;
    options.kubelets = true;
    START_OR_RETURN(StartWorld(nodes, std::move(options)));
    real_ = std::filesystem::exists(world_->cluster().Program("kube-proxy"));
    world_->Apply(WorkloadYaml({8080}) + WebServiceYaml() + ClientOfNode2());
    world_->MustKubectl({"rollout", "status", "--timeout=180s", "deployment/web"}, "",
                        std::chrono::seconds(190));
    world_->MustKubectl(
        {"wait", "--for=condition=Ready", "--timeout=180s", "pod/client", "pod/client-2"}, "",
        std::chrono::seconds(190));
    world_->Apply(
        real_ ? RealKubeProxyYaml(
                    KubeProxyFileText(mode),
                    fmt::format("https://{}:{}", Cluster::kControlPlaneAddress, Cluster::kApiPort))
              : KubeadmKubeProxyYaml(KubeProxyFileText(mode), ServedServices()));
    world_->MustKubectl(
        {"-n", kKubeSystem, "rollout", "status", "--timeout=180s", "daemonset/kube-proxy"}, "",
        kPatience + std::chrono::seconds(10));
    world_->Install("overlays/kube-proxy-provider");
    before_ = KubeProxySet();
    AwaitOnly(mode);
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
    const std::vector<kube::Json> slices = world_->api().List(kube::resources::kEndpointSlices, "");
    kube::Json services = kube::Json::array();
    for (const kube::Json& service : world_->api().List(kube::resources::kServices, "")) {
      for (const kube::Json& port : service.at("spec").at("ports")) {
        const std::string port_name = port.value("name", "");
        kube::Json endpoints = kube::Json::array();
        for (const kube::Json& slice : slices) {
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
  static void AddEndpoints(const kube::Json& slice, const std::string& port_name,
                           kube::Json& endpoints) {
    for (const kube::Json& port : slice.at("ports")) {
      if (port.value("name", "") != port_name) continue;
      for (const kube::Json& endpoint : slice.at("endpoints")) {
        for (const kube::Json& address : endpoint.at("addresses"))
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

  kube::Json KubeProxySet() {
    return world_->api().Get(kube::resources::kDaemonSets, kKubeSystem, "kube-proxy");
  }
  // Without what the API server counts.
  static kube::Json AnnotationsOf(const kube::Json& set) {
    kube::Json annotations = set.at("metadata").at("annotations");
    annotations.erase("deprecated.daemonset.template.generation");
    return annotations;
  }
  // Without what its controller says of it.
  static kube::Json AsWritten(kube::Json object) {
    object.erase("status");
    for (const char* field : {"resourceVersion", "managedFields"})
      object["metadata"].erase(field);
    return object;
  }
  kube::Json KubeProxyMap() {
    return world_->api().Get(kube::resources::kConfigMaps, kKubeSystem, "kube-proxy");
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
    for (const kube::Json& pod : pods)
      EXPECT_EQ(pod.value("/status/containerStatuses/0/restartCount"_json_pointer, -1), 0)
          << pod.dump(1);
  }
  std::vector<kube::Json> KubeProxyPods() {
    std::vector<kube::Json> pods;
    for (kube::Json& pod : world_->api().List(kube::resources::kPods, kKubeSystem)) {
      if (pod.at("metadata").value("/labels/k8s-app"_json_pointer, "") == "kube-proxy")
        pods.push_back(std::move(pod));
    }
    return pods;
  }

  // -9. Its Pod starts it again, with the file that it has.
  void KillKubeProxy(const char* node) {
    world_->cluster().node(node).Check(
        {"sh", "-c",
         fmt::format("kill -9 $(pidof {})", real_ ? "kube-proxy" : "pointsman-neighbour")});
    const auto is_back = [&] {
      const auto pods = KubeProxyPods();
      return std::any_of(pods.begin(), pods.end(), [&](const kube::Json& pod) {
        const kube::Json status =
            pod.value("/status/containerStatuses/0"_json_pointer, kube::Json::object());
        return pod.at("spec").value("nodeName", "") == node &&
               status.value("restartCount", 0) == 1 && status.value("ready", false);
      });
    };
    world_->Await(fmt::format("kube-proxy is back on {}", node), is_back, kPatience,
                  [&] { return kube::Json(KubeProxyPods()).dump(1); });
  }

  void Apply(const std::string& mode, const std::string& more = "") {
    world_->Apply(fmt::format(R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata: {{name: cluster}}
spec:
  provider: KubeProxy
  mode: {}
  rollout: {{canary: {{nodes: 0}}, minReady: 0s, maxUnavailable: {}{}}}
)",
                              mode, max_unavailable_, more));
  }
  std::string ReasonOf(const char* type) {
    for (const kube::Json& condition : world_->ProxyConfiguration("cluster").value(
             "/status/conditions"_json_pointer, kube::Json::array())) {
      if (condition.at("type") == type) return condition.at("reason");
    }
    return "";
  }
  // What the API has of Pointsman's in kube-proxy's matters; "": nothing, but for ConfigMaps of
  // revisions that Pods have been made with.
  std::string LeftInApi() {
    std::string left;
    const std::vector<kube::Json> pods = KubeProxyPods();
    for (const kube::Json& map : world_->api().List(kube::resources::kConfigMaps, kKubeSystem)) {
      const bool used = std::any_of(pods.begin(), pods.end(), [&](const kube::Json& pod) {
        return pod.at("spec").at("volumes").dump().find('"' + NameOf(map) + '"') !=
               std::string::npos;
      });
      if (!used && NameOf(map).find("pointsman") != std::string::npos)
        left += fmt::format("ConfigMap {}, ", NameOf(map));
    }
    for (const kube::Json& set : world_->api().List(kube::resources::kDaemonSets, kKubeSystem)) {
      if (NameOf(set) != "kube-proxy") left += fmt::format("DaemonSet {}, ", NameOf(set));
    }
    for (const kube::Json& node : world_->api().List(kube::resources::kNodes, "")) {
      if (node.at("metadata").value("labels", kube::Json::object()).contains(kLabel))
        left += fmt::format("label of {}, ", NameOf(node));
    }
    const kube::Json set = KubeProxySet();
    for (const auto& [name, value] : set.at("metadata").at("annotations").items()) {
      if (name.starts_with("pointsman.io/")) left += fmt::format("annotation {}, ", name);
    }
    for (const kube::Json& pod : pods) {
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
    const kube::Json set = KubeProxySet();
    EXPECT_EQ(set.at("spec"), before_.at("spec"));
    EXPECT_EQ(AnnotationsOf(set), AnnotationsOf(before_));
    EXPECT_EQ(set.at("metadata").at("uid"), before_.at("metadata").at("uid"));
    for (const kube::Json& pod : KubeProxyPods()) {
      EXPECT_EQ(pod.at("metadata").at("ownerReferences").at(0).at("uid"),
                set.at("metadata").at("uid"));
    }
    world_->MustKubectl(
        {"-n", kKubeSystem, "rollout", "status", "--timeout=180s", "daemonset/kube-proxy"}, "",
        kPatience + std::chrono::seconds(10));
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
  Loads StartLoads(int streams = 5, int rate = 20) {
    const std::vector<std::string> service = {"10.96.1.1:80"};
    Loads loads;
    for (const auto& [node, pod] :
         {std::pair("node-1", "default_client"), std::pair("node-2", "default_client-2")}) {
      loads.push_back(world_->StartLoad(world_->cluster().node(node), pod, service, rate, "tcp",
                                        streams, "20s"));
    }
    for (const World::Load& load : loads)
      world_->AwaitLoadRunning(load);
    return loads;
  }
  void ExpectCleanEnd(const Loads& loads, const std::string& when) {
    for (const World::Load& load : loads)
      ExpectClean(world_->StopLoad(load), load.node + ", " + when);
  }

  kube::Json before_;  // kube-proxy's DaemonSet
  int max_unavailable_ = 1;
  bool real_ = false;  // a program `kube-proxy` is beside ours: that, and no stand-in
};

}  // namespace pointsman::e2e
