#include "e2e/scenarios/prometheus_server.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;

constexpr const char* kProgram = "/usr/bin/prometheus";
constexpr const char* kAddress = "127.0.0.1:9090";

fs::path Monitoring() {
  return SourceDirectory() / "manifests/monitoring";
}

std::string ForAllNodes(std::string expression) {
  const std::string variable = "$node";
  for (size_t at = 0; (at = expression.find(variable, at)) != std::string::npos;)
    expression.replace(at, variable.size(), ".*");
  return expression;
}

}  // namespace

std::vector<PanelQuery> DashboardQueries() {
  std::ifstream file(Monitoring() / "dashboard.json");
  const kube::Json dashboard = kube::Json::parse(file);
  std::vector<PanelQuery> queries;
  for (const kube::Json& panel : dashboard.at("panels")) {
    for (const kube::Json& target : panel.at("targets"))
      queries.push_back(
          {panel.at("id"), panel.at("title"), target.at("refId"), ForAllNodes(target.at("expr"))});
  }
  return queries;
}

std::string PrometheusServer::Missing() {
  return access(kProgram, X_OK) == 0 ? "" : "needs prometheus (Debian package prometheus)";
}

PrometheusServer::PrometheusServer(World& world) : world_(world) {
  const fs::path dir = world_.cluster().dir();
  const YAML::Node rules = YAML::LoadFile(Monitoring() / "prometheus-rule.yaml");
  std::ofstream(dir / "rules.yml") << YAML::Dump(rules["spec"]) << "\n";
  std::ofstream config(dir / "prometheus.yml");
  config << "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\n"
         << "scrape_configs:\n"
         << "  - job_name: pointsman-operator\n    static_configs:\n";
  const bool pods = world_.has_kubelets();
  if (!pods) config << "      - {targets: ['" << World::OperatorMetrics() << "']}\n";
  for (const Node& node : world_.cluster().nodes()) {
    // The operator's Pods are on some of the nodes.
    if (pods) config << "      - {targets: ['" << node.address() << ":10350']}\n";
  }
  config << "  - job_name: pointsman-node-agent\n    static_configs:\n";
  for (const Node& node : world_.cluster().nodes()) {
    config << "      - {targets: ['" << node.address() << (pods ? ":10352" : ":10249")
           << "'], labels: {node: " << node.name() << "}}\n";
  }
  config.close();
  process_ = world_.SpawnInCluster(
      {kProgram, "--config.file", dir / "prometheus.yml", "--storage.tsdb.path", dir / "prometheus",
       "--web.listen-address", kAddress},
      "prometheus.log");
}

RunResult PrometheusServer::Promtool(std::vector<std::string> arguments) {
  SpawnOptions spawn;
  spawn.argv = std::move(arguments);
  spawn.argv.insert(spawn.argv.begin(), {"promtool", "query"});
  spawn.net_ns = world_.cluster().sandbox().net_ns();
  return e2e::Run(spawn);
}

std::string PrometheusServer::Ask(const std::string& query) {
  const RunResult result = Promtool({"instant", fmt::format("http://{}", kAddress), query});
  return result.exit == 0 ? result.out : "";
}

bool PrometheusServer::Understands(const std::string& query) {
  return Promtool({"instant", fmt::format("http://{}", kAddress), query}).exit == 0;
}

void PrometheusServer::AwaitData(const std::string& query) {
  std::string last;
  world_.Await(
      "data for " + query,
      [&] {
        last = Ask(query);
        return last.find("=>") != std::string::npos;
      },
      std::chrono::seconds(60), [&] { return last; });
}

kube::Json PrometheusServer::Range(const std::string& query,
                                   std::chrono::system_clock::time_point from,
                                   std::chrono::system_clock::time_point to,
                                   std::chrono::seconds step) {
  const auto seconds = [](std::chrono::system_clock::time_point time) {
    return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  };
  const RunResult result =
      Promtool({"range", "--format=json", fmt::format("--start={}", seconds(from)),
                fmt::format("--end={}", seconds(to)), fmt::format("--step={}s", step.count()),
                fmt::format("http://{}", kAddress), query});
  if (result.exit != 0)
    throw std::runtime_error(fmt::format("promtool query range {}: {}", query, result.out));
  return kube::Json::parse(result.out);
}

}  // namespace pointsman::e2e
