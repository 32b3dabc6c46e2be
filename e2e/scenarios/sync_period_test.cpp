// When the agent writes the kernel: one change at once, a burst after it in one go when
// minSyncPeriod has passed, everything again every syncPeriod. Counted by the agent's own metrics.
#include <fstream>
#include <regex>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/scenarios/standalone_fixture.h"

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using kube::Json;

constexpr int kServices = 30;
constexpr char kSyncs[] = "kubeproxy_sync_proxy_rules_duration_seconds_count";
// Changes that have come from the watch to the kernel, and those of them within 2 s.
constexpr char kReached[] = "pointsman_agent_change_to_kernel_seconds_count";
constexpr char kReachedSoon[] = "pointsman_agent_change_to_kernel_seconds_bucket\\{le=\"2\"\\}";
constexpr char kFullSyncs[] = "kubeproxy_sync_full_proxy_rules_duration_seconds_count";

struct Setup {
  const char* mode;
  const char* node;
};

class SyncPeriodTest : public StandaloneFixture, public testing::WithParamInterface<Setup> {
 protected:
  void SetUp() override {
    START_OR_RETURN(StartNode(GetParam().node, fmt::format("sync-period-{}", GetParam().mode)));
    const std::string pod = world_->AddServerPod("node-1", "server", {kTargetPort});
    services_ = Services(kServices, {pod});
    world_->CreateServices(services_);
  }

  // The agent with these periods of its mode; the other modes' are ones that would be noticed.
  void StartAgentWith(const std::string& sync_period, const std::string& min_sync_period) {
    Json configuration = {{"apiVersion", "kubeproxy.config.k8s.io/v1alpha1"},
                          {"kind", "KubeProxyConfiguration"},
                          {"mode", GetParam().mode},
                          {"hostnameOverride", "node-1"},
                          {"clientConnection", {{"kubeconfig", Kubeconfig()}}},
                          {"clusterCIDR", "10.244.0.0/16"}};
    for (const char* mode : {"iptables", "ipvs", "nftables"})
      configuration[mode] = {{"syncPeriod", "77s"}, {"minSyncPeriod", "33s"}};
    configuration[GetParam().mode] = {{"syncPeriod", sync_period},
                                      {"minSyncPeriod", min_sync_period}};
    WriteConfiguration(configuration.dump());
    agent_ = StartAgent();
    AwaitMode(GetParam().mode);
  }

  double Metric(const std::string& name) {
    const std::string metrics = Get(10249, "/metrics").body;
    std::smatch found;
    if (!std::regex_search(metrics, found, std::regex("(?:^|\n)" + name + " ([0-9.e+]+)")))
      throw std::runtime_error("there is no metric " + name + " in\n" + metrics);
    return std::stod(found[1]);
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

  std::vector<World::ServiceSpec> services_;
  pid_t agent_ = -1;
};

TEST_P(SyncPeriodTest, OneChangeAtOnceABurstInOneGoAndAllAgainEverySyncPeriod) {
  constexpr auto kMin = 20s;  // in which a busy machine has to take the endpoints away
  StartAgentWith("1h", "20s");
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
    EXPECT_FALSE(Connects(services_.at(static_cast<size_t>(i)).cluster_ip + ":80")) << i;
  EXPECT_EQ(Metric(kFullSyncs), full) << "syncPeriod is an hour";
  Stop(agent_);

  StartAgentWith("1s", "0s");
  const double begun = Metric(kFullSyncs) + 1;
  const auto begin = AwaitMetric(kFullSyncs, begun);
  const auto end = AwaitMetric(kFullSyncs, begun + 3);
  EXPECT_GT(end - begin, 2s) << "three periods, the first of which may be seen late";
  EXPECT_LT(end - begin, 60s) << "and not an hour";
  Stop(agent_);
}

INSTANTIATE_TEST_SUITE_P(Modes, SyncPeriodTest,
                         testing::Values(Setup{"iptables", "netns"}, Setup{"nftables", "netns"},
                                         Setup{"ipvs", "uml"}),
                         [](const auto& each) { return std::string(each.param.mode); });

}  // namespace
}  // namespace pointsman::e2e
