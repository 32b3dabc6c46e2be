// A stock kube-proxy is given another mode with kubectl, node by node, while clients send
// (docs/kube-proxy-provider.md): what kubeadm installs is there before and after, and nothing of
// Pointsman's is left in it.
#include <optional>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "e2e/scenarios/kube_proxy_provider_fixture.h"
#include "e2e/scenarios/prometheus_server.h"

namespace pointsman::e2e {
namespace {

using kube::Json;
using std::chrono_literals::operator""s;
namespace resources = kube::resources;

class KubeProxyProviderTest : public KubeProxyProviderFixture {
 protected:
  // The dashboard's panels of this provider have data, and they mean what they say.
  void ExpectPanels(PrometheusServer& prometheus, const std::string& mode) {
    const std::size_t nodes = world_->cluster().nodes().size();
    int queries = 0;
    for (const PanelQuery& query : DashboardQueries()) {
      if (!query.title.starts_with(kStockKubeProxyPanels)) continue;
      prometheus.AwaitData(query.expression);
      ++queries;
    }
    EXPECT_GE(queries, 6);
    for (const std::string& fact :
         {fmt::format("sum(pointsman_agent_provider{{provider='KubeProxy'}}) == {}", nodes),
          fmt::format("sum(pointsman_agent_mode{{state='active',mode='{}'}}) == {}", mode, nodes),
          fmt::format("sum(pointsman_agent_stock_kube_proxy{{state='Verified'}}) == {}", nodes),
          std::string("sum(pointsman_agent_stock_kube_proxy_missing_service_ports) == 0"),
          fmt::format("sum(pointsman_agent_kube_proxy_leftovers{{state='Removed'}}) == {}", nodes),
          std::string("sum(pointsman_agent_stock_kube_proxy_bridge) == 0"),
          std::string("max(pointsman_operator_kube_proxy_bound_nodes) == 0")})
      prometheus.AwaitData(fact);
  }
};

// Those that kube-proxy removes its old rules for before it writes the new ones. Rules of
// Pointsman's serve meanwhile.
TEST_F(KubeProxyProviderTest, FromIptablesToNftablesAndBackNothingFails) {
  START_OR_RETURN(MakeCluster({"netns", "netns", "netns", "netns", "netns"}));
  max_unavailable_ = 2;
  const std::string iptables = KubeProxyFileText("iptables");
  EXPECT_EQ(FileText(), iptables);
  Loads loads = StartLoads();
  std::optional<PrometheusServer> prometheus;
  if (PrometheusServer::Missing().empty()) prometheus.emplace(*world_);
  Apply("nftables");
  AwaitOwn("nftables", KubeProxyFileText("nftables"));
  AwaitOnly("nftables");
  if (prometheus) ExpectPanels(*prometheus, "nftables");
  ExpectPods(2);
  ExpectCleanEnd(loads, "from iptables to nftables");
  loads = StartLoads();
  Apply("iptables");
  AwaitOwn("iptables", iptables);
  AwaitOnly("iptables");
  ExpectPods(3);
  ExpectCleanEnd(loads, "from nftables to iptables");
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
  ExpectPods(4);
  ExpectCleanEnd(meanwhile, "while kube-proxy restarts");

  world_->MustKubectl({"delete", "pxc", "cluster", "--timeout=180s"}, "", 190s);
  EXPECT_EQ(FileText(), iptables);
  EXPECT_EQ(LeftInApi(), "");
  ExpectPods(4);
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
