#include "kubectl-pointsman/gates.h"

#include <gmock/gmock.h>

#include "kubectl-pointsman/history.h"
#include "kubectl-pointsman/status.h"
#include "kubectl-pointsman/testing_objects.h"

namespace pointsman::plugin {
namespace {

using kube::ChangeImpact;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

RolloutView View(const std::vector<ChangeImpact>& impacts, const std::string& more = "{}") {
  std::vector<kube::NodeProxy> proxies;
  for (const ChangeImpact& impact : impacts) {
    proxies.push_back(Proxy("node-" + std::to_string(proxies.size() + 1), "ipvs", 2));
    proxies.back().status.impact = impact;
  }
  return MakeRolloutView(Configuration(more), proxies, {}, At("2026-01-01T12:30:00Z"));
}

TEST(GatesTextTest, ShowsTheWorstFigureOfEachGate) {
  const RolloutView view = View({{.revision = 2,
                                  .connections_before = 100,
                                  .failed_before = 1,
                                  .connections_after = 200,
                                  .failed_after = 5,
                                  .cut_connections = 3,
                                  .refused_before = 2,
                                  .refused_after = 2},
                                 {.revision = 2, .cut_connections = 12, .sync_after = 5},
                                 {.revision = 1, .cut_connections = 5000}});
  EXPECT_EQ(GatesText(view),
            "failedConnections 5% (most 1.5%, node-1), syncLatency 10s (most 5 ms, node-2), "
            "refusedServices 5% (most 0, node-1), cutConnections 1000 (most 12, node-2)");
  EXPECT_THAT(StatusText(view, false, {}), HasSubstr("\nGates       failedConnections 5%"));
  EXPECT_EQ(GatesText(View({})), "");
  EXPECT_THAT(StatusText(View({}), false, {}), Not(HasSubstr("Gates")));
  const RolloutView off =
      View({{.revision = 2, .cut_connections = 1}},
           R"({"spec": {"rollout": {"gates": {"cutConnections": "Unlimited"}}}})");
  EXPECT_EQ(GatesText(off), "cutConnections Unlimited (most 1, node-1)");
}

TEST(GatesTextTest, ATrippedGateIsInTheJsonAndTheHistory) {
  const std::string status = R"({"status": {"trippedGates": [{"gate": "cutConnections",
      "node": "node-1", "revision": 2, "figure": "12 connections were cut", "bound": "5"}]}})";
  const nlohmann::json document =
      StatusJson(View({{.revision = 2, .cut_connections = 12}}, status));
  EXPECT_EQ(document["trippedGates"][0]["node"], "node-1");
  EXPECT_EQ(document["gates"]["cutConnections"], 1000);
  EXPECT_EQ(document["nodes"][0]["impact"]["cutConnections"], 12);
  StoredRevision stored;
  stored.revision.number = 2;
  const auto history = MakeHistory(Configuration(status), {stored}, {});
  EXPECT_THAT(history.at(0).marks, ElementsAre("specified", "stopped by cutConnections on node-1"));
}

TEST(GatesTextTest, AnImpactIsToldInASentence) {
  EXPECT_EQ(ImpactText({}), "");
  EXPECT_EQ(ImpactText({.connections_before = 10,
                        .failed_before = 0,
                        .connections_after = 20,
                        .failed_after = 1,
                        .cut_connections = 3,
                        .refused_after = 4,
                        .sync_before = 2,
                        .sync_after = 5}),
            "1 of 20 watched connections failed (before 0 of 10); 3 connections were cut; 4 "
            "Services are not served as specified; a change takes 5 ms to the kernel (before 2 "
            "ms)");
}

// A node may write any number.
TEST(GatesTextTest, FiguresThatMakeNoSenseAreLeftOut) {
  EXPECT_EQ(GatesText(View({{.revision = 2,
                             .connections_before = 0,
                             .failed_before = 7,
                             .connections_after = 1,
                             .failed_after = int64_t{1} << 53}})),
            "");
}

}  // namespace
}  // namespace pointsman::plugin
