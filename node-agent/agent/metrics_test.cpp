#include "node-agent/agent/metrics.h"

#include <gmock/gmock.h>

#include "kube/testing/metrics_page.h"

namespace pointsman::agent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(AgentMetricsTest, EachIsDocumentedAndNamedAsPrometheusWants) {
  Metrics metrics("0.1.0");
  ModeState state;
  state.preflight.emplace();
  state.preflight->modules = {{"ip_vs", "Loaded"}};
  metrics.SetState(state, ServiceModel(), 0);
  metrics.SetNeighbours({{.name = "calico", .modes = {{"ipvs", "Fine"}}}}, kube::Mode::kIpvs);
  metrics.SetProvider({.provider = kube::Provider::kKubeProxy,
                       .found = StockFinding::kVerified,
                       .missing_service_ports = 0,
                       .leftovers = kube::kKubeProxyRemoved});
  metrics.SetWatch("services", 1, true, 2, 1);
  Steps steps;
  steps.Failed("remove", "iptables", "no buffer space");
  metrics.SetSteps(steps);
  metrics.HealthzAnswered(200);
  metrics.LivezAnswered(200);
  metrics.SetLocalPolicies(LocalPolicies());
  metrics.RequestDone("10.0.0.1:6443", {});
  metrics.SetStatusWrites(1, 1);
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("\npointsman_agent_step_failures_total{step=\"remove\"} 1\n"));
  EXPECT_THAT(pointsman::testing::MetricsAtFault(text, POINTSMAN_SOURCE_DIR "/docs/metrics.md"),
              IsEmpty());
}

TEST(AgentMetricsTest, AModuleThatIsNotNeededAnyMoreHasNoSeries) {
  Metrics metrics("0.1.0");
  ModeState state;
  state.preflight.emplace();
  state.preflight->modules = {{"ip_vs", "Missing"}, {"nf_conntrack", "Loaded"}};
  metrics.SetState(state, ServiceModel(), 0);
  EXPECT_THAT(metrics.Render(), HasSubstr("{module=\"ip_vs\",state=\"Missing\"} 1"));
  state.preflight->modules = {{"nf_conntrack", "Builtin"}};
  metrics.SetState(state, ServiceModel(), 0);
  const std::string text = metrics.Render();
  EXPECT_THAT(text, Not(HasSubstr("ip_vs")));
  EXPECT_THAT(text, HasSubstr("{module=\"nf_conntrack\",state=\"Builtin\"} 1"));
  EXPECT_THAT(text, HasSubstr("{module=\"nf_conntrack\",state=\"Loaded\"} 0"));
}

TEST(AgentMetricsTest, HandoversAreThereBeforeTheFirstAndNeverFall) {
  Metrics metrics("0.1.0");
  ModeState state;
  metrics.SetState(state, ServiceModel(), 0);
  EXPECT_THAT(metrics.Render(),
              AllOf(HasSubstr("handovers_total{from=\"iptables\",to=\"ipvs\"} 0\n"),
                    HasSubstr("drained_connections_total{outcome=\"left\"} 0\n")));
  state.handovers[{kube::Mode::kIptables, kube::Mode::kIpvs}] = 2;
  state.drained = {.ended = 40, .left = 5, .cut = 2};
  metrics.SetState(state, ServiceModel(), 0);
  metrics.SetState(ModeState{}, ServiceModel(), 0);
  EXPECT_THAT(metrics.Render(),
              AllOf(HasSubstr("handovers_total{from=\"iptables\",to=\"ipvs\"} 2\n"),
                    HasSubstr("handovers_total{from=\"ipvs\",to=\"iptables\"} 0\n"),
                    HasSubstr("drained_connections_total{outcome=\"ended\"} 40\n"),
                    HasSubstr("drained_connections_total{outcome=\"cut\"} 2\n"),
                    HasSubstr("drained_connections_total{outcome=\"left\"} 3\n")));
}

TEST(AgentMetricsTest, ANeighbourIsShownByTheDesiredModeAndGoes) {
  Metrics metrics("0.1.0");
  const std::vector<kube::NeighbourStatus> found = {
      {.name = "docker", .modes = {{"ipvs", "Warning"}, {"nftables", "Fine"}}}};
  metrics.SetNeighbours(found, kube::Mode::kIpvs);
  EXPECT_THAT(metrics.Render(), HasSubstr("{neighbour=\"docker\",verdict=\"Warning\"} 1\n"));
  metrics.SetNeighbours(found, kube::Mode::kNftables);
  EXPECT_THAT(metrics.Render(), AllOf(HasSubstr("{neighbour=\"docker\",verdict=\"Fine\"} 1\n"),
                                      Not(HasSubstr("Warning"))));
  metrics.SetNeighbours({}, kube::Mode::kNftables);
  EXPECT_THAT(metrics.Render(), Not(HasSubstr("docker")));
}

TEST(AgentMetricsTest, AStockKubeProxyIsShownWhileItIsAskedFor) {
  Metrics metrics("0.1.0");
  ProviderState state{.provider = kube::Provider::kKubeProxy, .found = StockFinding::kOtherMode};
  metrics.SetProvider(state);
  EXPECT_THAT(metrics.Render(),
              AllOf(HasSubstr("pointsman_agent_provider{provider=\"KubeProxy\"} 1\n"),
                    HasSubstr("pointsman_agent_provider{provider=\"NodeAgent\"} 0\n"),
                    HasSubstr("pointsman_agent_stock_kube_proxy{state=\"OtherMode\"} 1\n"),
                    HasSubstr("pointsman_agent_stock_kube_proxy{state=\"Verified\"} 0\n"),
                    Not(HasSubstr("missing_service_ports")), Not(HasSubstr("leftovers"))));
  state.found = StockFinding::kNotReadBack;
  state.missing_service_ports = 7;
  state.bridged = true;
  metrics.SetProvider(state);
  EXPECT_THAT(metrics.Render(), AllOf(HasSubstr("stock_kube_proxy{state=\"NotReadBack\"} 1\n"),
                                      HasSubstr("stock_kube_proxy{state=\"OtherMode\"} 0\n"),
                                      HasSubstr("stock_kube_proxy_missing_service_ports 7\n"),
                                      HasSubstr("stock_kube_proxy_bridge 1\n")));
  state = {.provider = kube::Provider::kKubeProxy,
           .found = StockFinding::kVerified,
           .missing_service_ports = 0,
           .leftovers = kube::kKubeProxyDraining};
  metrics.SetProvider(state);
  EXPECT_THAT(metrics.Render(), AllOf(HasSubstr("stock_kube_proxy_missing_service_ports 0\n"),
                                      HasSubstr("kube_proxy_leftovers{state=\"Draining\"} 1\n"),
                                      HasSubstr("kube_proxy_leftovers{state=\"Removed\"} 0\n")));
  metrics.SetProvider({.provider = kube::Provider::kNodeAgent});
  EXPECT_THAT(metrics.Render(),
              AllOf(HasSubstr("pointsman_agent_provider{provider=\"NodeAgent\"} 1\n"),
                    Not(HasSubstr("stock_kube_proxy")), Not(HasSubstr("leftovers"))));
}

}  // namespace
}  // namespace pointsman::agent
