// The dashboard and the alert rules against a real Prometheus that scrapes a real cluster: a query
// that returns nothing is a query for a metric that does not exist.
#include <algorithm>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "e2e/scenarios/scenario_fixture.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

class MonitoringTest : public ScenarioTest {
 protected:
  void SetUp() override {
    if (access("/usr/bin/prometheus", X_OK) != 0) {
      GTEST_SKIP() << "needs prometheus (Debian package prometheus)";
    }
    START_OR_RETURN(StartWorld({"uml", "uml!ip_vs*"}, {}, "monitoring"));
    world_->StartOperator();
    world_->StartAgents();
  }
  Process StartPrometheus() {
    const auto dir = world_->cluster().dir();
    std::ofstream config(dir / "prometheus.yml");
    config << "global: {scrape_interval: 1s}\nscrape_configs:\n"
           << "  - job_name: pointsman-operator\n    static_configs: [{targets: ['"
           << World::OperatorMetrics() << "']}]\n"
           << "  - job_name: pointsman-node-agent\n    static_configs:\n";
    for (const Node& node : world_->cluster().nodes()) {
      config << "      - {targets: ['" << node.address()
             << ":10249'], labels: {node: " << node.name() << "}}\n";
    }
    config.close();
    return world_->SpawnInCluster(
        {"/usr/bin/prometheus", "--config.file", dir / "prometheus.yml", "--storage.tsdb.path",
         dir / "prometheus", "--web.listen-address", "127.0.0.1:9090"},
        "prometheus.log");
  }

  // What promtool prints for an instant query; "" when there is no data.
  std::string Query(const std::string& expression) {
    SpawnOptions query;
    query.argv = {"promtool", "query", "instant", "http://127.0.0.1:9090", expression};
    query.net_ns = world_->cluster().sandbox().net_ns();
    const RunResult result = pointsman::e2e::Run(query);
    return result.exit == 0 ? result.out : "";
  }
};

TEST_F(MonitoringTest, EveryQueryOfTheDashboardReturnsData) {
  const auto apply = [&](const char* mode) {
    world_->Apply(fmt::format(R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata: {{name: cluster}}
spec:
  mode: {}
  rollout: {{canary: {{nodes: 0}}, minReady: 0s}}
)",
                              mode));
    world_->AwaitRollout("cluster", 60s);
  };
  Process prometheus = StartPrometheus();
  apply("ipvs");
  const std::string ip = world_->AddServerPod("node-1", "web", {8080});
  world_->CreateServices(
      {{.name = "web", .cluster_ip = "10.96.1.1", .target_port = 8080, .endpoints = {ip}}});

  std::ifstream file(std::filesystem::path(POINTSMAN_SOURCE_DIR) /
                     "manifests/monitoring/dashboard.json");
  const kube::Json dashboard = kube::Json::parse(file);
  std::vector<std::string> queries;
  for (const kube::Json& panel : dashboard.at("panels")) {
    for (const kube::Json& target : panel.at("targets"))
      queries.push_back(target.at("expr").get<std::string>());
  }
  const auto of_userspace_mode =
      std::stable_partition(queries.begin(), queries.end(), [](const std::string& query) {
        return query.find("pointsman_forwarder_") == std::string::npos;
      });
  EXPECT_GT(of_userspace_mode - queries.begin(), 10);
  EXPECT_GT(queries.end() - of_userspace_mode, 5);
  const auto await_data = [&](const std::string& query) {
    std::string last;
    world_->Await(
        "data for " + query,
        [&] {
          last = Query(query);
          return last.find("=>") != std::string::npos;
        },
        60s, [&] { return last; });
  };
  std::for_each(queries.begin(), of_userspace_mode, await_data);
  // And they mean what they say.
  EXPECT_NE(Query("pointsman_agent_mode{state='active',mode='ipvs',node='node-1'} == 1"), "");
  EXPECT_NE(Query("pointsman_agent_fallback{node='node-2'} == 1").find("node-2"),
            std::string::npos);
  EXPECT_NE(
      Query("pointsman_agent_kernel_module{node='node-2',module='ip_vs',state='Missing'} == 1")
          .find("ip_vs"),
      std::string::npos);
  apply("userspace");
  std::for_each(of_userspace_mode, queries.end(), await_data);
  prometheus.Kill();
}

}  // namespace
}  // namespace pointsman::e2e
