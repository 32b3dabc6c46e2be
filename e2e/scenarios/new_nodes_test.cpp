// A cluster without kube-proxy whose nodes are not Ready before their Services are served, as with
// a network plugin that gets to the API server by its Service: all of it, and a node that joins
// later.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "e2e/scenarios/scenario_fixture.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

class NewNodesTest : public ScenarioTest {
 protected:
  // "" before it has joined.
  std::string Readiness(const std::string& node) {
    for (const kube::Json& object : world_->api().List(kube::resources::kNodes, "")) {
      if (object.at("metadata").at("name") != node) continue;
      for (const kube::Json& condition :
           object.value("/status/conditions"_json_pointer, kube::Json::array())) {
        if (condition.at("type") == "Ready") return condition.at("status");
      }
    }
    return "";
  }
  void AwaitReady(const std::string& node, const std::string& ready = "True") {
    world_->Await(
        node + " says Ready: " + ready, [&] { return Readiness(node) == ready; }, 30s,
        [&] { return world_->NodeProxy(node).dump(1); });
  }
};

TEST_F(NewNodesTest, NodesThatAreReadyOnlyWhenTheyAreServedAreServed) {
  WorldOptions options;
  options.kubelets = true;
  options.kubelet = {.ready_when_served = true, .later = {"node-3"}};
  START_OR_RETURN(StartWorld({"uml", "netns", "netns"}, std::move(options)));
  for (const char* node : {"node-1", "node-2"})
    AwaitReady(node, "False");
  world_->Install();
  for (const char* node : {"node-1", "node-2"})
    ASSERT_EQ(Readiness(node), "False") << "no Service is served yet";

  // One that the DaemonSet puts no Pod on; that the operator may know it is its Role's doing.
  world_->Apply("apiVersion: v1\nkind: Node\nmetadata: {name: other}\n");
  world_->api().Patch(kube::resources::kNodes, "", "other", kube::PatchType::kMerge,
                      {{"status", {{"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}},
                      "status");

  // node-1 has no nf_tables NAT and falls back to iptables.
  world_->Apply(R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata: {name: cluster}
spec:
  mode: nftables
  clusterCIDR: 10.244.0.0/16
  rollout:
    canary: {nodes: 1, soak: 2s}
    minReady: 1s
    maxUnavailable: 1
)");
  for (const char* node : {"node-1", "node-2"})
    AwaitReady(node);
  world_->AwaitRollout("cluster", 60s);
  world_->AwaitMode("node-2", "nftables", 10s);

  // After the rollout.
  world_->kubelet().Resume("node-3");
  AwaitReady("node-3");
  world_->AwaitMode("node-3", "nftables", 10s);
  world_->AwaitRollout("cluster", 30s);
  EXPECT_EQ(world_->ProxyConfiguration("cluster").at("/status/nodes/ready"_json_pointer), 3);
  EXPECT_NE(
      world_->MustKubectl({"describe", "pxc", "cluster"}).find("other (no label kubernetes.io/os)"),
      std::string::npos);
}

}  // namespace
}  // namespace pointsman::e2e
