// A cluster with kube-proxy on its nodes is taken over and given back with kubectl, while clients
// send: kube-proxy's rules go from the kernels by themselves, and no connection fails or breaks.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "e2e/scenarios/kube_proxy_stand_in.h"
#include "e2e/scenarios/scenario_fixture.h"
#include "e2e/scenarios/workload.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;
using ::testing::HasSubstr;

class TakeoverTest : public ScenarioTest {
 protected:
  static constexpr auto kPatience = 180s;  // for what never comes

  void TearDown() override {
    if (world_ != nullptr && HasFailure()) {
      std::printf("%s\n", world_->RolloutEvidence().c_str());
      for (const Node& node : world_->cluster().nodes()) {
        const ExecResult logs = node.Exec({"sh", "-c", "tail -n 40 /var/log/*kube-proxy*.log"});
        std::printf("---- %s\n%s%s\n", node.name().c_str(), logs.out.c_str(), logs.error.c_str());
      }
    }
    ScenarioTest::TearDown();
  }

  void StartKubeProxy() {
    std::vector<std::string> endpoints;
    for (const kube::Json& pod : world_->api().List(kube::resources::kPods, "default")) {
      if (pod.at("metadata").at("name").get<std::string>().starts_with("web-"))
        endpoints.push_back(pod.at("status").at("podIP").get<std::string>() + ":8080");
    }
    ASSERT_EQ(endpoints.size(), 6U);
    world_->Apply(KubeProxyYaml(
        {.cluster_ip = "10.96.1.1", .node_port = 30080, .endpoints = std::move(endpoints)}));
    AwaitKubeProxy();
  }
  void AwaitKubeProxy() {
    world_->MustKubectl(
        {"-n", "kube-system", "rollout", "status", "--timeout=180s", "daemonset/kube-proxy"}, "",
        kPatience + 10s);
  }

  const Node& ipvs_node() { return world_->cluster().node("node-1"); }
  const Node& iptables_node() { return world_->cluster().node("node-2"); }
  // What kube-proxy has in that kernel; "": nothing.
  static std::string KubeProxysIn(const Node& node) {
    std::string found;
    const auto look = [&](const std::vector<std::string>& tool, const char* sign) {
      const ExecResult shown = node.Exec(tool);
      if (shown.ok() && shown.out.find(sign) != std::string::npos) found += tool.front() + " ";
    };
    for (const char* save : {"iptables-legacy-save", "iptables-nft-save"})
      look({save}, ":KUBE-SERVICES");
    look({"ipvsadm", "-Sn"}, "-A -t 10.96.1.1:80");
    look({"ipset", "list", "-n"}, "KUBE-");
    look({"ip", "link", "show", "kube-ipvs0"}, "kube-ipvs0");
    return found;
  }
  static std::string PointsmansIn(const Node& node) {
    std::string found;
    for (const char* save : {"iptables-legacy-save", "iptables-nft-save"}) {
      const ExecResult shown = node.Exec({save});
      if (shown.out.find("POINTSMAN-IPT") != std::string::npos) found += shown.out;
    }
    return found;
  }
  std::string SaysOfKubeProxy(const Node& node) {
    const kube::Json proxy = world_->NodeProxy(node.name());
    return proxy.is_null() ? "" : proxy.value("/status/kubeProxy/state"_json_pointer, "");
  }
  void AwaitWord(const Node& node, const std::string& state) {
    world_->Await(
        "the agent of " + node.name() + " says of kube-proxy: " + state,
        [&] { return SaysOfKubeProxy(node) == state; }, kPatience,
        [&] { return world_->NodeProxy(node.name()).dump(1); });
  }

  // Clients that go on: a Pod of node-1, and node-2 itself.
  using Loads = std::vector<World::Load>;
  Loads StartLoads() {
    const std::vector<std::string> service = {"10.96.1.1:80"};
    Loads loads{world_->StartLoad(ipvs_node(), "default_client", service, 20, "tcp", 5, "20s"),
                world_->StartLoad(iptables_node(), "", service, 20, "tcp", 5, "20s")};
    for (const World::Load& load : loads)
      world_->AwaitLoadRunning(load);
    return loads;
  }
  void ExpectCleanEnd(const Loads& loads, const std::string& when) {
    for (const World::Load& load : loads) {
      const LoadReport report = world_->StopLoad(load);
      ExpectClean(report, load.node + ", " + when);
      EXPECT_EQ(report.Streams(), 5) << report.json.dump(1);
    }
  }
};

TEST_F(TakeoverTest, KubeProxysRulesGoAndComeBackUnderLoad) {
  WorldOptions options;
  options.kubelets = true;
  START_OR_RETURN(StartWorld({"uml", "netns"}, std::move(options)));
  world_->Install();
  world_->Apply(WorkloadYaml({8080}) + WebServiceYaml());
  world_->MustKubectl({"rollout", "status", "--timeout=180s", "deployment/web"}, "", 190s);
  world_->MustKubectl({"wait", "--for=condition=Ready", "--timeout=180s", "pod/client"}, "", 190s);
  ASSERT_NO_FATAL_FAILURE(StartKubeProxy());
  EXPECT_THAT(KubeProxysIn(ipvs_node()), HasSubstr("ipvsadm"));
  EXPECT_EQ(KubeProxysIn(iptables_node()).find("ipvsadm"), std::string::npos);

  // These connections are kube-proxy's.
  const Loads before = StartLoads();
  const std::string configuration = ClusterConfiguration("iptables", "30m");
  world_->Apply(configuration + "  kubeProxy: {policy: TakeOver}\n");
  // Where they are connection tracking's, its rules need not wait for them.
  AwaitWord(iptables_node(), "Removed");
  EXPECT_EQ(KubeProxysIn(iptables_node()), "");
  AwaitWord(ipvs_node(), "Draining");
  EXPECT_THAT(KubeProxysIn(ipvs_node()), HasSubstr("ipvsadm")) << "streams go through it";
  world_->Await(
      "the condition says what node-1 waits for",
      [&] {
        return world_->ProxyConfiguration("cluster").dump().find(
                   "node-1 (connections through kube-proxy's virtual servers are open yet)") !=
               std::string::npos;
      },
      kPatience, [&] { return world_->ProxyConfiguration("cluster").dump(1); });
  const Loads after = StartLoads();
  ExpectCleanEnd(before, "connected by kube-proxy");
  AwaitWord(ipvs_node(), "Removed");
  EXPECT_EQ(KubeProxysIn(ipvs_node()), "");
  world_->MustKubectl(
      {"wait", "pxc/cluster", "--for=condition=KubeProxyReplaced", "--timeout=180s"}, "", 190s);
  EXPECT_THAT(world_->MustKubectl({"get", "pxc/cluster", "-o", "json"}),
              HasSubstr("its rules are gone from 2 of them"));

  world_->MustKubectl({"delete", "pxc", "--all", "--timeout=300s"}, "", 310s);
  AwaitKubeProxy();
  EXPECT_THAT(KubeProxysIn(ipvs_node()), HasSubstr("ipvsadm"));
  EXPECT_THAT(KubeProxysIn(iptables_node()), HasSubstr("-save"));
  for (const Node& node : world_->cluster().nodes()) {
    world_->Await(
        "Pointsman's rules are gone from " + node.name(),
        [&] { return PointsmansIn(node).empty(); }, kPatience, [&] { return PointsmansIn(node); });
  }
  ExpectCleanEnd(StartLoads(), "connected by kube-proxy again");
  ExpectCleanEnd(after, "connected by Pointsman");
}

}  // namespace
}  // namespace pointsman::e2e
