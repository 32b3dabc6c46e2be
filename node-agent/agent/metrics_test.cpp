#include "node-agent/agent/metrics.h"

#include <gmock/gmock.h>

#include "kube/testing/metrics_page.h"

namespace pointsman::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(AgentMetricsTest, EachIsDocumentedAndNamedAsPrometheusWants) {
  Metrics metrics("0.1.0");
  ModeState state;
  state.preflight.emplace();
  state.preflight->modules = {{"ip_vs", "Loaded"}};
  metrics.SetState(state, ServiceModel(), 0);
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

}  // namespace
}  // namespace pointsman::agent
