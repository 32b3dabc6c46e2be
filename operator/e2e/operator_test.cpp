#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/testing/eventually.h"
#include "operator/e2e/operator_fixture.h"

namespace pointsman::op {
namespace {

using kube::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

// Plays the DaemonSet controller and the kubelets for kube-proxy's DaemonSet, a step at a time.
class FakeKubeProxy {
 public:
  explicit FakeKubeProxy(kube::Client& client) : client_(client) {
    client_.Create(
        kube::resources::kDaemonSets, kNs,
        {{"metadata", {{"name", "kube-proxy"}, {"labels", kLabels}}},
         {"spec",
          {{"selector", {{"matchLabels", kLabels}}},
           {"template",
            {{"metadata", {{"labels", kLabels}}},
             {"spec",
              {{"hostNetwork", true},
               {"terminationGracePeriodSeconds", 0},
               {"tolerations", {{{"operator", "Exists"}}}},
               {"containers", {{{"name", "kube-proxy"}, {"image", "kube-proxy:v1.33.0"}}}}}}}}}}});
    first_ = Spec();
  }
  Json Set() { return client_.Get(kube::resources::kDaemonSets, kNs, "kube-proxy"); }
  Json Spec() { return Set()["spec"]; }
  const Json& first() const { return first_; }
  // Names of the nodes that have a Pod.
  std::set<std::string> Step() {
    const Json set = Set();
    const kube::NodePlacement placement = kube::DecodeDaemonSet(set.dump()).placement;
    std::set<std::string> nodes;
    std::set<std::string> pods;
    for (const Json& pod : client_.List(kube::resources::kPods, kNs))
      pods.insert(pod["spec"]["nodeName"]);
    for (const Json& object : client_.List(kube::resources::kNodes, "")) {
      const kube::Node node = kube::DecodeNode(object.dump());
      const bool wanted = placement.WhyNot(node).empty();
      const bool there = pods.contains(node.name);
      if (wanted && !there) Create(set, node.name);
      if (!wanted && there) client_.Delete(kube::resources::kPods, kNs, "kube-proxy-" + node.name);
      if (wanted) nodes.insert(node.name);
    }
    return nodes;
  }

 private:
  static constexpr const char* kNs = "kube-system";
  static inline const Json kLabels = {{"k8s-app", "kube-proxy"}};

  void Create(const Json& set, const std::string& node) {
    Json spec = set["spec"]["template"]["spec"];
    spec["nodeName"] = node;
    client_.Create(kube::resources::kPods, kNs,
                   {{"metadata",
                     {{"name", "kube-proxy-" + node},
                      {"labels", kLabels},
                      {"ownerReferences",
                       {{{"apiVersion", "apps/v1"},
                         {"kind", "DaemonSet"},
                         {"name", "kube-proxy"},
                         {"uid", set["metadata"]["uid"]},
                         {"controller", true}}}}}},
                    {"spec", std::move(spec)}});
    client_.Patch(
        kube::resources::kPods, kNs, "kube-proxy-" + node, kube::PatchType::kMerge,
        {{"status",
          {{"phase", "Running"}, {"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}},
        "status");
  }

  kube::Client& client_;
  Json first_;
};

TEST_F(OperatorTest, RollsOutSurvivesBeingKilledAndCleansUp) {
  agents_ = std::make_unique<FakeAgents>(*client_, std::set<std::string>{"n1", "n2"});
  Apply("ipvs");
  Kubectl({"wait", "--for=condition=Available", "pxc/cluster", "--timeout=60s"});
  EXPECT_TRUE(Complete("ipvs", 2));
  EXPECT_EQ(agents_->most_changing(), 1);

  // What a person sees.
  const std::string described = Kubectl({"describe", "pxc", "cluster"});
  EXPECT_THAT(described, AllOf(HasSubstr("n3 (this kernel has no ip_vs; runs iptables)"),
                               HasSubstr("NodesCannotRunMode"), HasSubstr("RolloutComplete")));
  EXPECT_THAT(Kubectl({"get", "pxc"}), AllOf(HasSubstr("PHASE"), HasSubstr("Complete")));
  EXPECT_THAT(Kubectl({"get", "npx"}), AllOf(HasSubstr("ACTIVE"), HasSubstr("n3")));
  EXPECT_TRUE(Eventually([&] {
    const std::string events = Kubectl({"get", "events", "-n", "default"});
    return events.find("NodeUpdated") != std::string::npos &&
           events.find("NodeFallback") != std::string::npos &&
           events.find("RolloutStarted") != std::string::npos;
  }));
  EXPECT_THAT(
      Metrics(),
      AllOf(HasSubstr("pointsman_operator_nodes{configuration=\"cluster\",state=\"updated\"} 3"),
            HasSubstr("pointsman_operator_nodes{configuration=\"cluster\",state=\"fallback\"} 1"),
            HasSubstr("pointsman_operator_leader 1")));

  // Killed in the middle of the way back.
  Apply("iptables");
  ASSERT_TRUE(Eventually([&] {
    const Json proxy = client_->Get(kube::resources::kNodeProxies, "", "n1");
    return proxy["spec"]["mode"] == "iptables";
  }));
  operator_.Signal(SIGKILL);
  ASSERT_TRUE(operator_.WaitFor(10s));
  StartOperator();
  EXPECT_TRUE(Eventually([&] { return Complete("iptables", 3); }));
  EXPECT_EQ(agents_->most_changing(), 1);

  // The same specification is the same revision.
  Apply("ipvs");
  EXPECT_TRUE(Eventually([&] { return Complete("ipvs", 2); }));
  EXPECT_EQ(client_->Get(kube::resources::kProxyConfigurations, "",
                         "cluster")["status"]["currentRevision"],
            1);

  Kubectl({"delete", "pxc", "cluster", "--timeout=60s"});
  EXPECT_THAT(Kubectl({"get", "npx"}), HasSubstr("No resources found"));
}

TEST_F(OperatorTest, TakesNodesOutOfKubeProxysDaemonSetAndGivesThemBack) {
  FakeKubeProxy kube_proxy(*client_);
  EXPECT_EQ(kube_proxy.Step().size(), 3U);
  agents_ = std::make_unique<FakeAgents>(*client_, std::set<std::string>{"n1", "n2", "n3"});
  Apply("ipvs");
  ASSERT_TRUE(Eventually([&] { return Complete("ipvs", 3); }));
  EXPECT_EQ(kube_proxy.Spec(), kube_proxy.first()) << "it is not asked for";

  Apply("ipvs", "  kubeProxy: {policy: TakeOver}\n");
  ASSERT_TRUE(Eventually([&] { return kube_proxy.Step().size() == 2; }));
  // Killed in the middle.
  operator_.Signal(SIGKILL);
  ASSERT_TRUE(operator_.WaitFor(10s));
  EXPECT_EQ(kube_proxy.Spec()["updateStrategy"]["type"], "OnDelete");
  StartOperator();
  ASSERT_TRUE(Eventually([&] { return kube_proxy.Step().empty(); }));
  Kubectl({"wait", "--for=condition=KubeProxyReplaced", "pxc/cluster", "--timeout=60s"});
  EXPECT_THAT(Kubectl({"get", "nodes", "-l", "pointsman.io/kube-proxy=replaced", "-o", "name"}),
              AllOf(HasSubstr("n1"), HasSubstr("n2"), HasSubstr("n3")));

  Kubectl({"delete", "pxc", "cluster", "--wait=false"});
  ASSERT_TRUE(Eventually([&] {
    // Ours goes from no node where kube-proxy does not run, and nothing of kube-proxy's from one
    // where it does.
    const std::set<std::string> back = kube_proxy.Step();
    for (const Json& proxy : client_->List(kube::resources::kNodeProxies, "")) {
      const bool removed = proxy["spec"].value("state", "") == "Removed";
      const bool is_back = back.contains(proxy["metadata"]["name"]);
      EXPECT_TRUE(!removed || is_back) << proxy.dump(1);
      EXPECT_TRUE(!is_back || proxy["spec"].value("kubeProxy", "") == "Leave") << proxy.dump(1);
    }
    return back.size() == 3 && client_->List(kube::resources::kProxyConfigurations, "").empty();
  }));
  EXPECT_EQ(kube_proxy.Spec(), kube_proxy.first());
  EXPECT_FALSE(
      kube_proxy.Set()["metadata"]["annotations"].contains("pointsman.io/kube-proxy-before"));
  EXPECT_THAT(Kubectl({"get", "nodes", "-l", "pointsman.io/kube-proxy"}),
              HasSubstr("No resources found"));
}

// Windows nodes and virtual kubelets: nothing is asked of them and nobody waits for them.
TEST_F(OperatorTest, NodesThatCannotRunTheAgentAreNotWaitedFor) {
  agents_ = std::make_unique<FakeAgents>(*client_, std::set<std::string>{"n1", "n2", "n3"});
  Kubectl({"label", "node", "n1", "n2", "n3", "kubernetes.io/os=linux"});
  const std::string manifest = std::string(POINTSMAN_MANIFESTS_DIR) + "/base/node-agent.yaml";
  Kubectl({"apply", "-n", "pointsman-system", "-f", manifest});
  for (const auto& [name, labels] :
       {std::pair("win-1", Json{{"kubernetes.io/os", "windows"}}),
        std::pair("vk-1", Json{{"kubernetes.io/os", "linux"}, {"type", "virtual-kubelet"}})}) {
    client_->Create(kube::resources::kNodes, "",
                    {{"apiVersion", "v1"},
                     {"kind", "Node"},
                     {"metadata", {{"name", name}, {"labels", labels}}},
                     {"spec", {{"taints", {{{"key", "other"}, {"effect", "NoSchedule"}}}}}}});
    client_->Patch(kube::resources::kNodes, "", name, kube::PatchType::kStrategicMerge,
                   {{"status", {{"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}},
                   "status");
  }
  Apply("ipvs");
  Kubectl({"wait", "--for=condition=Available", "pxc/cluster", "--timeout=60s"});
  EXPECT_TRUE(Complete("ipvs", 3));
  EXPECT_THAT(Kubectl({"get", "npx"}), AllOf(Not(HasSubstr("win-1")), Not(HasSubstr("vk-1"))));
  EXPECT_THAT(Kubectl({"describe", "pxc", "cluster"}),
              AllOf(HasSubstr("NodesCannotRunAgent"), HasSubstr("win-1 (kubernetes.io/os=windows)"),
                    HasSubstr("vk-1 (type=virtual-kubelet)")));
}

TEST_F(OperatorTest, ABadSpecificationIsRefusedAndChangesNothing) {
  agents_ = std::make_unique<FakeAgents>(*client_, std::set<std::string>{"n1", "n2", "n3"});
  Apply("ipvs");
  ASSERT_TRUE(Eventually([&] { return Complete("ipvs", 3); }));
  const std::string before =
      Kubectl({"get", "npx", "-o", "jsonpath={.items[*].metadata.generation}"});
  const std::pair<const char*, const char*> bad[] = {
      {"  ipvs: {scheduler: fast}\n", "spec.ipvs.scheduler"},
      {"  ipvs: {tcpTimeout: -5s}\n", "spec.ipvs.tcpTimeout"},
      {"  clusterCIDR: 10.0.0.0/99\n", "spec.clusterCIDR"},
      {"  nodePortAddresses: [eth0]\n", "spec.nodePortAddresses"},
      {"  ipvs: {schedulr: rr}\n", "schedulr"},
  };
  const std::string head =
      "apiVersion: pointsman.io/v1alpha1\nkind: ProxyConfiguration\nmetadata: {name: cluster}\n"
      "spec:\n  mode: ipvs\n";
  for (const auto& [more, field] : bad) {
    const e2e::RunResult result = TryKubectl({"apply", "-f", "-"}, head + more);
    EXPECT_NE(result.exit, 0) << more;
    EXPECT_THAT(result.out, HasSubstr(field));
  }
  // What the definitions say in CEL only (manifests/kubernetes-1.25) the operator refuses
  // elsewhere.
  const std::pair<const char*, const char*> unnoticed[] = {
      {"  handover: {drainTimeout: 25h}\n", "spec.handover.drainTimeout"},
      {"  ipvs: {syncPeriod: 5s, minSyncPeriod: 6s}\n", "spec.ipvs.minSyncPeriod"},
  };
  for (const auto& [more, field] : unnoticed) {
    ASSERT_EQ(TryKubectl({"apply", "-f", "-"}, head + more).exit, 0) << more;
    EXPECT_TRUE(Eventually([&, path = field] {
      return Kubectl({"get", "pxc", "cluster", "-o",
                      "jsonpath={.status.conditions[?(@.type=='Accepted')]}"})
                 .find(path) != std::string::npos;
    })) << field;
  }
  EXPECT_EQ(Kubectl({"get", "npx", "-o", "jsonpath={.items[*].metadata.generation}"}), before);
  Apply("ipvs");
  EXPECT_TRUE(Eventually([&] { return Complete("ipvs", 3); }));
  EXPECT_EQ(Kubectl({"get", "npx", "-o", "jsonpath={.items[*].metadata.generation}"}), before);
}

}  // namespace
}  // namespace pointsman::op
