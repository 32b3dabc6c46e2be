// The dashboard, the alert rules and the runbooks against a real Prometheus that scrapes a real
// cluster: a query that returns nothing is a query for a metric that does not exist.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <regex>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "e2e/control-plane/testing/environment_variable.h"
#include "e2e/scenarios/prometheus_server.h"
#include "e2e/scenarios/scenario_fixture.h"
#include "kube/testing/page_text.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

const fs::path kMonitoring = fs::path(POINTSMAN_SOURCE_DIR) / "manifests/monitoring";

// Lines between fences of that kind: "" or "promql".
std::vector<std::string> LinesOfBlocks(const std::string& text, const std::string& kind) {
  std::vector<std::string> lines;
  for (const std::string& block : FencedBlocks(text, kind)) {
    const std::vector<std::string> more = Matches(block, "[^\n]+");
    lines.insert(lines.end(), more.begin(), more.end());
  }
  return lines;
}

class MonitoringTest : public ScenarioTest {
 protected:
  void SetUp() override {
    if (const std::string missing = PrometheusServer::Missing(); !missing.empty())
      GTEST_SKIP() << missing;
    START_OR_RETURN(StartWorld({"uml", "uml", "uml!ip_vs*"}, {}, "monitoring"));
    // As kube-proxy's ipvs mode leaves them: a neighbour with a warning in every mode.
    world_->cluster().node("node-2").Check({"ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"});
    world_->StartOperator();
    world_->StartAgents();
  }

  void Move(const std::string& mode) {
    world_->Apply(ClusterConfiguration(mode));
    world_->AwaitRollout("cluster", 60s);
  }

  // A line of a runbook, as a person types it.
  RunResult Type(const std::string& command) {
    SpawnOptions spawn;
    spawn.argv = {"bash", "-c", command};
    spawn.env["PATH"] = (dir_ / "bin").string() + ":" +
                        world_->cluster().Program("kubectl-pointsman").parent_path().string() +
                        ":" + EnvironmentVariable("PATH");
    spawn.env["KUBECONFIG"] = world_->cluster().Kubeconfig();
    return e2e::Run(spawn);
  }
  void TryTheRunbooks(PrometheusServer& prometheus);
  void TripAGate(PrometheusServer& prometheus);
};

// What the runbooks tell to type and to query works here.
void MonitoringTest::TryTheRunbooks(PrometheusServer& prometheus) {
  // The objects that they look at; what runs is of this test.
  world_->MustKubectl({"apply", "-k", fs::path(POINTSMAN_SOURCE_DIR) / "manifests/base"});
  const std::string kubectl = EnvironmentVariable("POINTSMAN_KUBECTL");
  fs::create_directories(dir_ / "bin");
  if (!kubectl.empty()) fs::create_symlink(kubectl, dir_ / "bin/kubectl");

  const std::string page = ReadText(fs::path(POINTSMAN_SOURCE_DIR) / "docs/runbooks.md");
  size_t typed = 0;
  for (std::string command : LinesOfBlocks(page, "")) {
    // These need a Pod that runs, and reviews of rights, which the tests' API server does not have.
    const std::vector<std::string> words = Matches(command, "[^ ]+");
    if (std::any_of(words.begin(), words.end(), [](const std::string& word) {
          return word == "logs" || word == "debug" || word == "services" || word == "auth";
        }))
      continue;
    for (const auto& [word, here] :
         {std::pair("NODE", "node-3"), {"CONFIGURATION", "cluster"}, {"MODE", "ipvs"}})
      command = std::regex_replace(command, std::regex(fmt::format("\\b{}\\b(?!:)", word)), here);
    const RunResult result = Type(command);
    // The plugin's codes say how things stand.
    const bool plugin = command.starts_with("kubectl pointsman ");
    EXPECT_TRUE(result.exit == 0 || (plugin && result.exit >= 2 && result.exit <= 4))
        << command << ": " << result.exit << "\n"
        << result.out;
    ++typed;
  }
  EXPECT_GT(typed, 20U);
  for (const std::string& query : LinesOfBlocks(page, "promql"))
    EXPECT_TRUE(prometheus.Understands(query)) << query;
}

// Streams through ipvs on the canary end with that mode.
void MonitoringTest::TripAGate(PrometheusServer& prometheus) {
  const char* const gate =
      "pointsman_operator_tripped_gates{configuration='cluster',gate='cutConnections'}";
  prometheus.AwaitData(fmt::format("{} == 0", gate));
  const World::Load load =
      world_->StartLoad(world_->cluster().node("node-1"), "client", {"10.96.1.1:80"}, 10, "tcp", 3);
  world_->AwaitLoadRunning(load);
  world_->Apply(std::regex_replace(ClusterConfiguration("iptables"),
                                   std::regex("canary: [{]nodes: 0[}]"),
                                   "canary: {nodes: 1, soak: 0s}\n    gates: {cutConnections: 0}"));
  world_->AwaitProgress(
      "the gate stops the rollout",
      [&] {
        Progress progress = world_->RolloutProgress("cluster");
        progress.done = progress.state.starts_with("RolledBack");
        return progress;
      },
      60s, [&] { return world_->RolloutEvidence(); });
  prometheus.AwaitData(fmt::format("{} == 1", gate));
  prometheus.AwaitData("ALERTS{alertname='PointsmanGateTripped',gate='cutConnections'}");
  world_->StopLoad(load);
}

TEST_F(MonitoringTest, DashboardAlertsAndRunbooksShowAMove) {
  PrometheusServer prometheus(*world_);
  const std::string ip = world_->AddServerPod("node-2", "web", {8080});
  world_->CreateServices(
      {{.name = "web", .cluster_ip = "10.96.1.1", .target_port = 8080, .endpoints = {ip}}});
  world_->AddClientPod("node-1", "client");
  Move("iptables");
  const World::Load load = world_->StartLoad(world_->cluster().node("node-1"), "client",
                                             {"10.96.1.1:80"}, 10, "both", 3);
  world_->AwaitLoadRunning(load);
  prometheus.AwaitData("pointsman_agent_mode{state='active',mode='iptables',node='node-1'} == 1");
  Move("ipvs");
  world_->AwaitMode("node-1", "ipvs", 60s);  // and nothing drains
  ExpectClean(world_->StopLoad(load), "pod on node-1");

  std::vector<std::string> queries;
  std::vector<std::string> of_userspace_mode;
  for (const PanelQuery& query : DashboardQueries()) {
    if (query.title.starts_with(kStockKubeProxyPanels)) continue;  // kube_proxy_provider_test
    const bool forwarder = query.expression.find("pointsman_forwarder_") != std::string::npos;
    (forwarder ? of_userspace_mode : queries).push_back(query.expression);
  }
  EXPECT_GT(queries.size(), 20U);
  EXPECT_GT(of_userspace_mode.size(), 5U);
  for (const std::string& query : queries)
    prometheus.AwaitData(query);

  // And they mean what they say.
  const std::string warning =
      "pointsman_agent_neighbour{node='node-2',neighbour='stale-kube-proxy-sets',"
      "verdict='Warning'} == 1";
  prometheus.AwaitData(warning);
  for (const char* fact :
       {"pointsman_agent_mode{state='active',mode='ipvs',node='node-1'} == 1",
        "pointsman_agent_fallback{node='node-3'} == 1",
        "pointsman_agent_kernel_module{node='node-3',module='ip_vs',state='Missing'} == 1",
        "pointsman_agent_handovers_total{node='node-1',from='iptables',to='ipvs'} == 1",
        "pointsman_agent_handovers_total{node='node-3',from='iptables',to='ipvs'} == 0",
        // The streams, which do not end by themselves.
        "pointsman_agent_drained_connections_total{node='node-1',outcome='left'} >= 3",
        "pointsman_agent_watched_connections_answered_total{node='node-1'} > 0",
        "pointsman_operator_rollout_phase{configuration='cluster',phase='Complete'} == 1",
        // Not for long enough yet.
        "ALERTS{alertname='PointsmanNodeFallback',node='node-3',alertstate='pending'}",
        "ALERTS{alertname='PointsmanKernelModuleMissing',module='ip_vs',alertstate='pending'}"})
    prometheus.AwaitData(fact);
  EXPECT_THAT(prometheus.Ask("ALERTS{node=~'node-1|node-2',alertname=~'PointsmanNodeFallback|"
                             "PointsmanKernelModuleMissing|PointsmanHandoverReverted'}"),
              Not(HasSubstr("=>")))
      << "they are well";

  // The others' metrics are there too, and their expressions can be evaluated.
  const std::string rules = ReadText(kMonitoring / "prometheus-rule.yaml");
  const std::vector<std::string> names =
      Matches(rules, "\\b(?:pointsman_(?:agent|operator)|kubeproxy)_[a-z_]+");
  for (const std::string& name : std::set<std::string>(names.begin(), names.end()))
    prometheus.AwaitData("count(" + name + ")");
  TryTheRunbooks(prometheus);
  TripAGate(prometheus);

  Move("userspace");
  for (const std::string& query : of_userspace_mode)
    prometheus.AwaitData(query);
  prometheus.AwaitData(
      "pointsman_agent_handovers_total{node='node-2',from='ipvs',to='userspace'} == 1");
}

// manifests/overlays/runbook-links makes links of the alerts' paths.
TEST(RunbookLinksTest, LeadToTheSectionOfEachAlert) {
  const std::string kubectl = EnvironmentVariable("POINTSMAN_KUBECTL");
  if (kubectl.empty() || kubectl == EnvironmentVariable("POINTSMAN_KUBECTL_120"))
    GTEST_SKIP() << "needs POINTSMAN_KUBECTL, the path of a kubectl 1.22 or newer";
  SpawnOptions spawn;
  spawn.argv = {kubectl, "kustomize",
                fs::path(POINTSMAN_SOURCE_DIR) / "manifests/overlays/runbook-links"};
  const RunResult result = e2e::Run(spawn);
  ASSERT_EQ(result.exit, 0) << result.out;
  const std::vector<std::string> alerts = Matches(result.out, "- alert: (\\w+)", 1);
  const std::vector<std::string> linked =
      Matches(result.out, "runbook_url: https://CHANGE-ME/docs/runbooks[.]md#([a-z]+)\n", 1);
  ASSERT_FALSE(alerts.empty());
  ASSERT_EQ(linked.size(), alerts.size()) << result.out;
  for (size_t i = 0; i < alerts.size(); ++i)
    EXPECT_TRUE(std::equal(alerts[i].begin(), alerts[i].end(), linked[i].begin(), linked[i].end(),
                           [](char a, char b) { return std::tolower(a) == b; }))
        << alerts[i] << " " << linked[i];
  EXPECT_EQ(result.out.find("name: pointsman-runbooks"), std::string::npos) << "is not applied";
}

}  // namespace
}  // namespace pointsman::e2e
