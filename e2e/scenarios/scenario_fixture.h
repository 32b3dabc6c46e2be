// For the scenarios' tests: a cluster a case.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "e2e/scenarios/world.h"

namespace pointsman::e2e {

// A ProxyConfiguration that waits for nothing but what it has to: "cluster", for all nodes. With a
// `node`: "only-NODE", for this one, before what "cluster" says.
inline std::string ClusterConfiguration(const std::string& mode,
                                        const std::string& drain_timeout = "3s",
                                        int max_unavailable = 1, const std::string& node = "") {
  return R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata:
  name: )" +
         (node.empty() ? "cluster\nspec:\n"
                       : "only-" + node +
                             "\nspec:\n  priority: 1\n  nodeSelector: {matchLabels: "
                             "{kubernetes.io/hostname: " +
                             node + "}}\n") +
         "  mode: " + mode + R"(
  clusterCIDR: 10.244.0.0/16
  rollout:
    canary: {nodes: 0}
    minReady: 0s
    maxUnavailable: )" +
         std::to_string(max_unavailable) + R"(
  handover:
    drainTimeout: )" +
         drain_timeout + "\n";
}

class ScenarioTest : public testing::Test {
 protected:
  // Skips the test when the machine cannot boot such nodes, hence START_OR_RETURN. `nodes`: see
  // ParseNode; `name`: of the directory, which the options need not have.
  void StartWorld(const std::vector<std::string>& nodes, WorldOptions options = {},
                  const std::string& name = TestName()) {
    for (const std::string& node : nodes)
      options.nodes.push_back(ParseNode(node));
    if (const std::string missing = MissingForACluster(options.nodes); !missing.empty())
      GTEST_SKIP() << missing;
    dir_ = options.dir =
        std::filesystem::temp_directory_path() / fmt::format("pointsman-{}-{}", getpid(), name);
    options.source_dir = SourceDirectory();
    world_ = std::make_unique<World>(std::move(options));
    world_->Start();
  }
  // The logs are kept when the test has failed.
  void EndWorld() {
    if (world_ == nullptr) return;
    world_.reset();
    if (!HasFailure()) std::filesystem::remove_all(dir_);
  }
  void TearDown() override { EndWorld(); }

  static std::string TestName() {
    return testing::UnitTest::GetInstance()->current_test_info()->name();
  }

  static void ExpectClean(const LoadReport& report, const std::string& who) {
    EXPECT_EQ(report.Failed(), 0) << who << ": " << report.json.dump(1);
    EXPECT_EQ(report.BrokenStreams(), 0) << who << ": " << report.json.dump(1);
    EXPECT_GT(report.Attempts(), 0) << who;
    std::printf("%s: %s\n", who.c_str(), report.Summary().c_str());
  }

  std::unique_ptr<World> world_;
  std::filesystem::path dir_;  // of world_
};

}  // namespace pointsman::e2e

// GTEST_SKIP ends the function that it stands in, and no other.
#define START_OR_RETURN(...) \
  do {                       \
    __VA_ARGS__;             \
    if (IsSkipped()) return; \
  } while (false)
