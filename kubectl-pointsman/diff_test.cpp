#include "kubectl-pointsman/diff.h"

#include <gmock/gmock.h>

#include "kubectl-pointsman/exit_code.h"
#include "kubectl-pointsman/testing_objects.h"

namespace pointsman::plugin {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<Manifest> Parse(const std::string& text) {
  std::vector<std::string> others;
  return ParseManifests(text, "file.yaml", others);
}
std::string ErrorOf(const std::string& text) {
  try {
    Parse(text);
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "no Failure";
}

constexpr const char* kHead = "apiVersion: pointsman.io/v1alpha1\nkind: ProxyConfiguration\n";

TEST(ManifestFileTest, ReadsDocumentsAndLists) {
  std::vector<std::string> others;
  const auto manifests =
      ParseManifests("# of the cluster\n---\n" + std::string(kHead) +
                         "metadata: {name: one}\nspec: {mode: iptables, clusterCIDR: 10.0.0.0/8}\n"
                         "--- # a comment\napiVersion: v1\nkind: ConfigMap\n---\n"
                         "apiVersion: v1\nkind: List\nitems:\n- apiVersion: pointsman.io/v1alpha1\n"
                         "  kind: ProxyConfiguration\n  metadata: {name: two}\n"
                         "  spec: {mode: ipvs, detectLocalMode: NodeCIDR}\n",
                     "file.yaml", others);
  ASSERT_EQ(manifests.size(), 2U);
  EXPECT_EQ(manifests[0].name, "one");
  EXPECT_EQ(manifests[0].place, "file.yaml:5");
  EXPECT_EQ(manifests[1].name, "two");
  EXPECT_EQ(manifests[1].place, "file.yaml:16");
  EXPECT_THAT(others, ElementsAre("ConfigMap"));
}

TEST(ManifestFileTest, EveryErrorNamesFileLineAndField) {
  EXPECT_THAT(ErrorOf(std::string(kHead) +
                      "metadata: {name: x}\nspec:\n  mode: ipvs\n  clusterCIDR: 10.0.0.0/8\n"
                      "  ipvs:\n    scheduler: fast\n  rolout: {}\n"),
              AllOf(HasSubstr("file.yaml:8: spec.ipvs.scheduler: \"fast\" is not one of rr"),
                    HasSubstr("file.yaml:9: spec.rolout: unknown field")));
  EXPECT_THAT(ErrorOf("---\n" + std::string(kHead) + "spec: {mode: ipvs, mode: iptables}\n"),
              AllOf(HasSubstr("file.yaml:4: spec.mode: is there twice"),
                    HasSubstr("metadata.name: is needed")));
  EXPECT_THAT(ErrorOf("a: [\n"), HasSubstr("file.yaml:1: from this line on: "));
  EXPECT_THAT(ErrorOf("kind: Pod\n"), HasSubstr("there is no ProxyConfiguration in it"));
  EXPECT_THAT(ErrorOf("[1]\n"), HasSubstr("is no object of the API"));
  EXPECT_TRUE(IsHarmless(ErrorOf(std::string(kHead) + "metadata: {name: x}\n\"" + "\\e[2J" +
                                 "\": 1\nspec: {mode: ipvs}\n")));
}

TEST(AppliedTest, IsWhatKubectlApplyLeaves) {
  const json live = json::parse(R"({
    "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration":
      "{\"spec\": {\"mode\": \"iptables\", \"priority\": 5, \"ipvs\": {\"scheduler\": \"lc\"}}}"}},
    "spec": {"mode": "iptables", "priority": 5, "ipvs": {"scheduler": "lc", "strictARP": true},
             "rollout": {"paused": true}}})");
  const json after = Applied(json::parse(R"({"spec": {"mode": "ipvs", "ipvs": {}}})"), live);
  EXPECT_EQ(after["spec"], json::parse(R"({"mode": "ipvs", "ipvs": {"strictARP": true},
                                           "rollout": {"paused": true}})"));
  EXPECT_EQ(Applied(json::parse(R"({"spec": {"mode": "ipvs"}})"), nullptr)["spec"]["mode"], "ipvs");
}

class DiffTest : public ::testing::Test {
 protected:
  DiffTest() {
    for (const char* name : {"node-1", "node-2", "node-3"}) {
      kube::Node node;
      node.name = name;
      node.uid = std::string("node-uid-") + name;
      node.labels = {{"kubernetes.io/os", "linux"}, {"kubernetes.io/hostname", name}};
      node.ready = true;
      input_.nodes.push_back(node);
    }
    input_.now = At("2026-01-02T00:00:00Z");
  }
  // A cluster that runs `mode`.
  void Runs(const std::string& mode) {
    live_["cluster"] = json::parse(R"({"metadata": {"name": "cluster", "uid": "u1"}, "spec":
      {"mode": ")" + mode + R"(", "clusterCIDR": "10.244.0.0/16"}})");
    input_.configurations = {kube::ProxyConfigurationFromJson(live_["cluster"])};
    for (const kube::Node& node : input_.nodes) {
      kube::NodeProxy proxy = Proxy(node.name, mode, 1);
      proxy.node_uid = node.uid;
      proxy.spec.settings = input_.configurations[0].spec.settings;
      input_.proxies.push_back(proxy);
    }
  }
  Diff Of(const std::string& spec, const std::string& name = "cluster") {
    return MakeDiff(Parse(std::string(kHead) + "metadata: {name: " + name +
                          "}\nspec: {clusterCIDR: 10.244.0.0/16, " + spec + "}\n"),
                    live_, input_);
  }
  DiffInput input_;
  std::map<std::string, json> live_;
};

TEST_F(DiffTest, AnotherModeMovesEachNode) {
  Runs("iptables");
  input_.proxies[2].status.preflights = {{"ipvs", false, "ModuleMissing", "no ip_vs"}};
  const Diff diff = Of("mode: ipvs");
  EXPECT_TRUE(diff.any());
  EXPECT_EQ(DiffText(diff),
            "ProxyConfiguration cluster (file.yaml:3): 1 field\n"
            "  spec.mode   iptables -> ipvs\n"
            "  Note: 1 node cannot run ipvs as things are: `kubectl pointsman preflight --mode "
            "ipvs` says why\n"
            "3 nodes: iptables -> ipvs (node-1, node-2, node-3)\n");
}

TEST_F(DiffTest, TheSameIsNoChange) {
  Runs("ipvs");
  const Diff diff = Of("mode: ipvs, rollout: {maxUnavailable: 1}");
  EXPECT_FALSE(diff.any());
  EXPECT_THAT(diff.nodes, IsEmpty());
}

// How a change gets to the nodes is no change of theirs.
TEST_F(DiffTest, ARolloutsSettingsMoveNoNode) {
  Runs("ipvs");
  const Diff diff = Of("mode: ipvs, rollout: {maxUnavailable: 2, paused: true}");
  EXPECT_TRUE(diff.any());
  EXPECT_THAT(diff.nodes, IsEmpty());
  EXPECT_THAT(DiffText(diff), AllOf(HasSubstr("spec.rollout.maxUnavailable   1 -> 2"),
                                    HasSubstr("paused is set"), HasSubstr("No node changes.")));
}

TEST_F(DiffTest, AnotherConfigurationTakesTheNodesThatItWins) {
  Runs("iptables");
  const Diff diff =
      Of("mode: ipvs, priority: 1, nodeSelector: {matchLabels: {kubernetes.io/hostname: node-2}}",
         "pool");
  ASSERT_EQ(diff.nodes.size(), 1U);
  EXPECT_EQ(diff.nodes[0].what, "iptables -> ipvs");
  EXPECT_THAT(diff.nodes[0].nodes, ElementsAre("node-2"));
  EXPECT_THAT(Of("mode: ipvs, priority: -1", "pool").nodes, IsEmpty()) << "it wins none";
}

TEST_F(DiffTest, NodesThatNothingSelectsAnyMoreLoseTheirRules) {
  Runs("ipvs");
  const Diff diff = Of("mode: ipvs, nodeSelector: {matchLabels: {kubernetes.io/hostname: node-1}}");
  ASSERT_EQ(diff.nodes.size(), 1U);
  EXPECT_THAT(diff.nodes[0].what, HasSubstr("rules are removed"));
  EXPECT_THAT(diff.nodes[0].nodes, ElementsAre("node-2", "node-3"));
}

TEST_F(DiffTest, WhatIsNewBegins) {
  const Diff diff = Of("mode: nftables");
  EXPECT_TRUE(diff.configurations[0].is_new);
  ASSERT_EQ(diff.nodes.size(), 1U);
  EXPECT_EQ(diff.nodes[0].what, "begin with nftables");
}

TEST_F(DiffTest, AKubeProxyThatStaysIsNamed) {
  Runs("ipvs");
  Diff diff = Of("mode: nftables, provider: KubeProxy");
  ASSERT_EQ(diff.nodes.size(), 1U);
  EXPECT_EQ(diff.nodes[0].what, "nftables, served by kube-proxy");
  EXPECT_EQ(diff.nodes[0].nodes.size(), 3U);
  EXPECT_THAT(DiffText(diff),
              AllOf(HasSubstr("spec.provider   NodeAgent -> KubeProxy"), HasSubstr("restarts")));

  input_.configurations[0].spec.provider = kube::Provider::kKubeProxy;
  live_["cluster"]["spec"]["provider"] = "KubeProxy";
  for (kube::NodeProxy& proxy : input_.proxies)
    proxy.spec.provider = kube::Provider::kKubeProxy;
  diff = Of("mode: nftables, provider: KubeProxy");
  ASSERT_EQ(diff.nodes.size(), 1U);
  EXPECT_EQ(diff.nodes[0].what, "ipvs -> nftables");
  EXPECT_THAT(Of("mode: ipvs, provider: KubeProxy").nodes, IsEmpty());
  diff = Of("mode: ipvs, provider: NodeAgent");
  ASSERT_EQ(diff.nodes.size(), 1U);
  EXPECT_EQ(diff.nodes[0].what, "ipvs, served by Pointsman itself");
}

}  // namespace
}  // namespace pointsman::plugin
