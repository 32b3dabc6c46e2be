// When the agent writes the kernel: one change at once, a burst after it in one go when
// minSyncPeriod has passed, everything again every syncPeriod. Counted by the agent's own metrics.
#include <fstream>
#include <regex>

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/scenarios/world.h"

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using kube::Json;

constexpr uint16_t kTargetPort = 8080;
constexpr int kServices = 30;
constexpr char kConfigFile[] = "/run/kube-proxy.yaml";
constexpr char kSyncs[] = "kubeproxy_sync_proxy_rules_duration_seconds_count";
// Changes that have come from the watch to the kernel, and those of them within 2 s.
constexpr char kReached[] = "pointsman_agent_change_to_kernel_seconds_count";
constexpr char kReachedSoon[] = "pointsman_agent_change_to_kernel_seconds_bucket\\{le=\"2\"\\}";
constexpr char kFullSyncs[] = "kubeproxy_sync_full_proxy_rules_duration_seconds_count";

struct Setup {
  const char* mode;
  const char* node;
};

class SyncPeriodTest : public testing::TestWithParam<Setup> {
 protected:
  void SetUp() override {
    if (const std::string missing = MissingForACluster(); !missing.empty()) {
      GTEST_SKIP() << missing;
    }
    WorldOptions options;
    options.dir = std::filesystem::temp_directory_path() /
                  fmt::format("pointsman-{}-sync-period-{}", getpid(), GetParam().mode);
    options.source_dir = POINTSMAN_SOURCE_DIR;
    options.nodes = {ParseNode(GetParam().node)};
    options.pointsman = false;
    dir_ = options.dir;
    world_ = std::make_unique<World>(options);
    world_->Start();
    world_->MintKubeconfig("system:kube-proxy", {}, dir_ / "kube-proxy.kubeconfig");
    const std::string pod = world_->AddServerPod("node-1", "server", {kTargetPort});
    for (int i = 0; i < kServices; ++i) {
      World::ServiceSpec service;
      service.name = fmt::format("web-{}", i);
      service.cluster_ip = fmt::format("10.96.1.{}", 1 + i);
      service.target_port = kTargetPort;
      service.endpoints = {pod};
      service.endpoint_nodes = {{pod, "node-1"}};
      services_.push_back(service);
    }
    world_->CreateServices(services_);
  }

  void TearDown() override {
    if (world_ == nullptr) return;
    world_.reset();
    if (!HasFailure()) std::filesystem::remove_all(dir_);
  }

  const e2e::Node& Node() { return world_->cluster().node("node-1"); }

  // The agent with these periods of its mode; the other modes' are ones that would be noticed.
  void StartAgent(const std::string& sync_period, const std::string& min_sync_period) {
    Json configuration = {{"apiVersion", "kubeproxy.config.k8s.io/v1alpha1"},
                          {"kind", "KubeProxyConfiguration"},
                          {"mode", GetParam().mode},
                          {"hostnameOverride", "node-1"},
                          {"clientConnection", {{"kubeconfig", dir_ / "kube-proxy.kubeconfig"}}},
                          {"clusterCIDR", "10.244.0.0/16"}};
    for (const char* mode : {"iptables", "ipvs", "nftables"})
      configuration[mode] = {{"syncPeriod", "77s"}, {"minSyncPeriod", "33s"}};
    configuration[GetParam().mode] = {{"syncPeriod", sync_period},
                                      {"minSyncPeriod", min_sync_period}};
    Node().client().Put(kConfigFile, configuration.dump());
    log_ = dir_ / fmt::format("agent-{}.log", ++agents_);
    agent_ = Node().client().Start(
        {world_->cluster().Program("pointsman-node-agent"), "--config", kConfigFile}, log_);
    world_->Await(
        "the agent serves", [&] { return Get("/proxyMode") == GetParam().mode; }, 60s,
        [&] { return Log(); });
  }
  void StopAgent() {
    Node().client().Signal(agent_, SIGTERM);
    world_->Await(
        "the agent ends", [&] { return !Node().client().Status(agent_).running; }, 30s,
        [&] { return Log(); });
  }

  std::string Log() const {
    std::ifstream file(log_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string Get(const std::string& path) {
    return Node().Exec({"curl", "-s", "-m", "5", "http://127.0.0.1:10249" + path}).out;
  }
  double Metric(const std::string& name) {
    const std::string metrics = Get("/metrics");
    std::smatch found;
    if (!std::regex_search(metrics, found, std::regex("(?:^|\n)" + name + " ([0-9.e+]+)")))
      throw std::runtime_error("there is no metric " + name + " in\n" + metrics);
    return std::stod(found[1]);
  }

  bool Connects(const World::ServiceSpec& service) {
    return Node()
        .Exec({world_->cluster().Program("pointsman-traffic"), "connect",
               service.cluster_ip + ":80", "--timeout", "2s"})
        .ok();
  }
  void TakeEndpointAway(int service) {
    World::ServiceSpec changed = services_.at(static_cast<size_t>(service));
    changed.endpoints.clear();
    world_->SetEndpoints(changed);
  }
  // Nothing has been written for so long.
  void AwaitQuiet(std::chrono::milliseconds length) {
    double last = Metric(kSyncs);
    auto since = Clock::now();
    world_->Await(
        "the agent has nothing to do",
        [&] {
          const double now = Metric(kSyncs);
          if (now != last) since = Clock::now();
          last = now;
          return Clock::now() - since > length;
        },
        60s, [&] { return Log(); });
  }

  // When it was seen that the metric has come to this.
  Clock::time_point AwaitMetric(const std::string& name, double value) {
    world_->Await(
        fmt::format("{} is {}", name, value), [&] { return Metric(name) >= value; }, 60s,
        [&] { return Log(); });
    return Clock::now();
  }

  std::unique_ptr<World> world_;
  std::filesystem::path dir_;
  std::filesystem::path log_;
  std::vector<World::ServiceSpec> services_;
  pid_t agent_ = -1;
  int agents_ = 0;
};

TEST_P(SyncPeriodTest, OneChangeAtOnceABurstInOneGoAndAllAgainEverySyncPeriod) {
  constexpr auto kMin = 6s;
  StartAgent("1h", "6s");
  AwaitQuiet(kMin + 500ms);
  const double full = Metric(kFullSyncs);
  const double syncs = Metric(kSyncs);

  const double reached = Metric(kReached);
  const double soon = Metric(kReachedSoon);

  const auto first = Clock::now();
  TakeEndpointAway(0);
  AwaitMetric(kReached, reached + 1);
  EXPECT_EQ(Metric(kReachedSoon), soon + 1) << "a single change waits for nothing";
  for (int i = 1; i < kServices; ++i)
    TakeEndpointAway(i);
  ASSERT_LT(Clock::now() - first, kMin) << "the machine is too slow for this test";
  AwaitMetric(kReached, reached + 2);
  EXPECT_EQ(Metric(kReachedSoon), soon + 1) << "minSyncPeriod holds the next ones back";
  EXPECT_EQ(Metric(kSyncs), syncs + 2) << kServices - 1 << " changes are one sync";
  for (int i = 0; i < kServices; ++i)
    EXPECT_FALSE(Connects(services_.at(static_cast<size_t>(i)))) << i;
  EXPECT_EQ(Metric(kFullSyncs), full) << "syncPeriod is an hour";
  StopAgent();

  StartAgent("1s", "0s");
  const double begun = Metric(kFullSyncs) + 1;
  const auto begin = AwaitMetric(kFullSyncs, begun);
  const auto end = AwaitMetric(kFullSyncs, begun + 3);
  EXPECT_GT(end - begin, 2s) << "three periods, the first of which may be seen late";
  EXPECT_LT(end - begin, 12s) << "on a busy machine";
  StopAgent();
}

INSTANTIATE_TEST_SUITE_P(Modes, SyncPeriodTest,
                         testing::Values(Setup{"iptables", "netns"}, Setup{"nftables", "netns"},
                                         Setup{"ipvs", "uml"}),
                         [](const auto& each) { return std::string(each.param.mode); });

}  // namespace
}  // namespace pointsman::e2e
