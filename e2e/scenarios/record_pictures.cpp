// pointsman-record-pictures: what the pictures of docs/pictures are drawn from (scripts/pictures.sh
// --record): the dashboard's queries over a move of a real cluster, and `kubectl pointsman status`
// in the middle of it.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "e2e/control-plane/testing/environment_variable.h"
#include "e2e/scenarios/prometheus_server.h"
#include "e2e/scenarios/world.h"

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;
using std::chrono_literals::operator""s;
using Clock = std::chrono::system_clock;

constexpr std::chrono::seconds kPatience{120};
constexpr std::chrono::seconds kBefore{30};  // that the pictures begin before the move
constexpr std::chrono::seconds kAfter{10};
constexpr int kServices = 20;

std::string Configuration(const std::string& mode) {
  return fmt::format(R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata: {{name: cluster}}
spec:
  mode: {}
  clusterCIDR: 10.244.0.0/16
  rollout: {{canary: {{nodes: 1, soak: 15s}}, maxUnavailable: 2, minReady: 3s}}
  handover: {{drainTimeout: 10s}}
)",
                     mode);
}

class Recorder {
 public:
  explicit Recorder(fs::path to) : to_(std::move(to)) {
    WorldOptions options;
    for (const char* node : {"uml", "uml", "uml", "uml", "uml!ip_vs*"})
      options.nodes.push_back(ParseNode(node));
    if (const std::string missing = MissingForACluster(options.nodes); !missing.empty())
      throw std::runtime_error(missing);
    if (const std::string missing = PrometheusServer::Missing(); !missing.empty())
      throw std::runtime_error(missing);
    dir_ = options.dir = fs::temp_directory_path() / fmt::format("pointsman-pictures-{}", getpid());
    options.source_dir = SourceDirectory();
    world_ = std::make_unique<World>(std::move(options));
    world_->Start();
    // Neighbours with something to say.
    const Cluster& cluster = world_->cluster();
    cluster.node("node-2").Check({"ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"});
    cluster.node("node-4").Check({"iptables-legacy", "-w", "-N", "KUBE-ROUTER-FORWARD"});
    world_->StartOperator();
    world_->StartAgents();
  }

  void Run() {
    PrometheusServer prometheus(*world_);
    Serve();
    world_->Apply(Configuration("iptables"));
    world_->AwaitRollout("cluster", kPatience);
    const World::Load load =
        world_->StartLoad(world_->cluster().node("node-1"), "client", targets_, 20, "tcp", 5);
    world_->AwaitLoadRunning(load);
    // Changes, some a second.
    SpawnOptions churn;
    churn.argv = {"bash", "-c", Churn()};
    churn.log = dir_ / "churn.log";
    const Process changes = Spawn(churn);
    const Clock::time_point begin = Clock::now();
    Await("the time before the move", [&] { return Clock::now() >= begin + kBefore; });
    world_->Apply(Configuration("ipvs"));
    Await("two nodes in flight", [&] { return Draining() >= 2; });
    RecordStatus();
    world_->AwaitRollout("cluster", kPatience);
    Await("nothing drains", [&] { return Draining() == 0; });
    world_->Apply(Configuration("iptables"));
    world_->AwaitRollout("cluster", kPatience);
    Await("nothing drains", [&] { return Draining() == 0; });
    const Clock::time_point done = Clock::now();
    Await("the time after it", [&] { return Clock::now() >= done + kAfter; });
    const Clock::time_point end = Clock::now();
    std::printf("%s\n", world_->StopLoad(load).Summary().c_str());
    for (const PanelQuery& query : DashboardQueries())
      std::ofstream(to_ / fmt::format("{}-{}.json", query.panel, query.ref))
          << prometheus.Range(query.expression, begin, end, 1s) << "\n";
  }

 private:
  void Await(const std::string& what, const std::function<bool()>& holds) {
    world_->Await(what, holds, kPatience, [&] { return world_->RolloutEvidence(); });
  }

  void Serve() {
    std::vector<World::ServiceSpec> services;
    std::vector<uint16_t> ports;
    ports.reserve(kServices);
    for (int i = 0; i < kServices; ++i)
      ports.push_back(static_cast<uint16_t>(8000 + i));
    std::map<std::string, std::string> nodes;
    for (const char* node : {"node-2", "node-3"})
      nodes[world_->AddServerPod(node, fmt::format("server-{}", node), ports)] = node;
    for (int i = 0; i < kServices; ++i) {
      World::ServiceSpec service;
      service.name = fmt::format("web-{}", i);
      service.cluster_ip = fmt::format("10.96.1.{}", 10 + i);
      service.target_port = ports[static_cast<size_t>(i)];
      service.endpoint_nodes = nodes;
      for (const auto& [address, node] : nodes)
        service.endpoints.push_back(address);
      services.push_back(service);
      if (i < kServices / 2) targets_.push_back(service.cluster_ip + ":80");
    }
    world_->CreateServices(services);
    world_->AddClientPod("node-1", "client");
  }

  // Services that the load does not go to get an endpoint less and again all.
  std::string Churn() const {
    return fmt::format(
        "export KUBECONFIG='{}'; n={}; while true; do for i in $(seq $n $((2 * n - 1))); do "
        "slice=$('{}' get endpointslices -l kubernetes.io/service-name=web-$i -o name | head -1); "
        "for ready in false true; do '{}' patch $slice --type=json -p "
        "'[{{\"op\":\"add\",\"path\":\"/endpoints/0/"
        "conditions\",\"value\":{{\"ready\":'$ready'}}}}]'; "
        "done; done; done",
        world_->cluster().Kubeconfig().string(), kServices / 2, Kubectl(), Kubectl());
  }
  static std::string Kubectl() {
    const std::string kubectl = EnvironmentVariable("POINTSMAN_KUBECTL");
    return kubectl.empty() ? "kubectl" : kubectl;
  }

  int Draining() {
    int draining = 0;
    for (const Node& node : world_->cluster().nodes()) {
      const kube::Json proxy = world_->NodeProxy(node.name());
      if (proxy.is_null()) continue;
      const kube::Json status = proxy.value("status", kube::Json::object());
      if (!status.value("drainingMode", std::string()).empty()) ++draining;
    }
    return draining;
  }

  // On a terminal, which script(1) makes.
  void RecordStatus() {
    SpawnOptions spawn;
    const std::string program = world_->cluster().Program("kubectl-pointsman");
    spawn.argv = {"script", "-qec",
                  "stty cols 120 rows 40; '" + program + "' status --once --nodes", "/dev/null"};
    spawn.env["KUBECONFIG"] = world_->cluster().Kubeconfig();
    spawn.env["TERM"] = "xterm";
    const RunResult result = e2e::Run(spawn);
    std::string text = result.out;
    std::erase(text, '\r');
    std::ofstream(to_ / "status.ansi") << "$ kubectl pointsman status --nodes\n" << text;
  }

  const fs::path to_;
  fs::path dir_;
  std::unique_ptr<World> world_;
  std::vector<std::string> targets_;
};

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  CLI::App app("Records what docs/pictures is drawn from", "pointsman-record-pictures");
  std::string to;
  app.add_option("DIRECTORY", to, "Where the recordings are put")
      ->required()
      ->check(CLI::ExistingDirectory);
  CLI11_PARSE(app, argc, argv);
  try {
    pointsman::e2e::Recorder(to).Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pointsman-record-pictures: %s\n", error.what());
    return 1;
  }
  return 0;
}
