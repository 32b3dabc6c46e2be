#include "operator/runtime/metrics.h"

#include <gmock/gmock.h>

#include "kube/testing/metrics_page.h"

namespace pointsman::op {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(OperatorMetricsTest, EachIsDocumentedAndNamedAsPrometheusWants) {
  Metrics metrics;
  kube::ProxyConfigurationStatus status;
  status.phase = "Complete";
  status.modes["ipvs"] = 3;
  status.tripped_gates = {{"cutConnections", "n1", 2, "7", "5"},
                          {"cutConnections", "n2", 2, "9", "5"}};
  metrics.SetConfigurations({{"cluster", status}});
  metrics.SetWatch("nodes", true, 1, 2, 1);
  metrics.SetBoundNodes(3);
  EXPECT_THAT(metrics.Render(), HasSubstr("\npointsman_operator_kube_proxy_bound_nodes 3\n"));
  EXPECT_THAT(metrics.Render(), HasSubstr("pointsman_operator_node_modes"));
  EXPECT_THAT(
      metrics.Render(),
      HasSubstr(
          "pointsman_operator_tripped_gates{configuration=\"cluster\",gate=\"cutConnections\"} 2"));
  EXPECT_THAT(
      metrics.Render(),
      HasSubstr(
          "pointsman_operator_tripped_gates{configuration=\"cluster\",gate=\"syncLatency\"} 0"));
  EXPECT_THAT(
      pointsman::testing::MetricsAtFault(metrics.Render(), POINTSMAN_SOURCE_DIR "/docs/metrics.md"),
      IsEmpty());
}

// Each time that this replica leads it does so with a new queue, and a counter never falls.
TEST(OperatorMetricsTest, WhatQueuesCountIsAddedUp) {
  Metrics metrics;
  metrics.BeginQueue();
  metrics.SetQueue(1, 7, 2);
  metrics.SetQueue(0, 9, 2);
  metrics.BeginQueue();
  metrics.SetQueue(1, 1, 0);
  EXPECT_THAT(metrics.Render(), HasSubstr("\npointsman_operator_workqueue_adds_total 10\n"));
  EXPECT_THAT(metrics.Render(), HasSubstr("\npointsman_operator_workqueue_retries_total 2\n"));
}

}  // namespace
}  // namespace pointsman::op
