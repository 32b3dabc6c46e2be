// A stock kube-proxy is given another configuration with kubectl apply (provider KubeProxy), and
// its own objects are the cluster's again in the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/e2e/kube_proxy_stage.h"
#include "operator/e2e/operator_fixture.h"

namespace pointsman::op {
namespace {

using kube::Json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using namespace std::chrono_literals;

constexpr const char* kRevision = "pointsman.io/kube-proxy-revision";
constexpr std::chrono::seconds kRollout{
    120};  // each node's kube-proxy serves for 10 s before the next

// As kubeadm writes it, shortened, with what a person has added.
std::string FileWith(const std::string& mode) {
  return "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
         "bindAddress: 0.0.0.0\n"
         "clusterCIDR: 10.244.0.0/16   # as the CNI has it\n"
         "ipvs:\n"
         "  scheduler: \"\"\n"
         "kind: KubeProxyConfiguration\n"
         "metricsBindAddress: 0.0.0.0:10249\n"
         "mode: " +
         mode +
         "  # ticket 4711\n"
         "someFutureField: {a: 1}\n";
}

class ProviderE2eTest : public OperatorTest {
 protected:
  void SetUp() override {
    OperatorTest::SetUp();
    Kubectl({"delete", "node", "n3"});
    cluster_ = std::make_unique<KubeProxyStage>(*client_, FileWith("ipvs"));
    cluster_->Step();
    cluster_->Step();
    agents_ = std::make_unique<FakeAgents>(
        *client_, std::set<std::string>{"n1", "n2"},
        [this](const std::string& node) { return cluster_->Mode(node); });
  }
  void TearDown() override {
    agents_.reset();
    OperatorTest::TearDown();
  }
  void ApplyProvider() { Apply("nftables", "  provider: KubeProxy\n"); }
  // Steps the cluster until it holds. At no time is more than one node without kube-proxy.
  bool Until(const std::function<bool()>& holds) {
    return Eventually(
        [&] {
          cluster_->Step();
          EXPECT_LE(cluster_->Down(), 1U);
          return holds();
        },
        kRollout);
  }
  std::string Condition(const std::string& type) {
    return Kubectl({"get", "pxc", "cluster", "-o",
                    "jsonpath={.status.conditions[?(@.type=='" + type + "')]}"});
  }
  std::string BoundNodes() { return Kubectl({"get", "nodes", "-l", kRevision, "-o", "name"}); }

  std::unique_ptr<KubeProxyStage> cluster_;
};

TEST_F(ProviderE2eTest, KubeProxyGoesFromIpvsToNftablesNodeByNodeAndItsOwnObjectsSaySo) {
  ApplyProvider();
  // The first node.
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n1") == "nftables"; }))
      << Condition("Progressing");
  EXPECT_EQ(cluster_->Mode("n2"), "ipvs");
  EXPECT_THAT(BoundNodes(), AllOf(HasSubstr("n1"), Not(HasSubstr("n2"))));
  const auto sets = cluster_->RevisionSets();
  ASSERT_EQ(sets.size(), 1U);
  const std::string name = sets[0]["metadata"]["name"];
  const std::string number = sets[0]["metadata"]["labels"][kRevision];
  const Json node = client_->Get(kube::resources::kNodes, "", "n1");
  EXPECT_EQ(node["metadata"]["labels"][kRevision], number);
  EXPECT_EQ(name, "kube-proxy-pointsman-" + number);
  const Json map = cluster_->ConfigMap(name);
  EXPECT_EQ(map["immutable"], true);
  EXPECT_EQ(map["data"]["config.conf"], FileWith("nftables"));
  EXPECT_EQ(map["data"]["kubeconfig.conf"], "kind: Config\n");
  EXPECT_EQ(cluster_->File(), FileWith("ipvs")) << "who is not bound reads that";
  EXPECT_EQ(cluster_->Set()["spec"]["updateStrategy"]["type"], "OnDelete");
  const Json proxy = client_->Get(kube::resources::kNodeProxies, "", "n1");
  EXPECT_EQ(proxy["spec"]["provider"], "KubeProxy");
  EXPECT_EQ(proxy["spec"]["metricsBindAddress"], "0.0.0.0:10249");
  EXPECT_EQ(proxy["spec"]["healthzBindAddress"], "");

  // Killed in the middle.
  operator_.Signal(SIGKILL);
  ASSERT_TRUE(operator_.WaitFor(10s));
  StartOperator();
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n2") == "nftables"; }))
      << Condition("Progressing");
  const auto pods = cluster_->BoundPods();

  // The revision becomes the cluster's own, and no Pod restarts for that.
  ASSERT_TRUE(Until([&] {
    return Complete("nftables", 2) && cluster_->RevisionSets().empty() && cluster_->Down() == 0 &&
           BoundNodes().empty();
  })) << Condition("Progressing");
  EXPECT_EQ(cluster_->File(), FileWith("nftables"));
  EXPECT_EQ(cluster_->ConfigMap()["data"]["kubeconfig.conf"], "kind: Config\n");
  EXPECT_EQ(cluster_->Set()["spec"], cluster_->first_set()["spec"]);
  EXPECT_FALSE(
      cluster_->Set()["metadata"]["annotations"].contains("pointsman.io/kube-proxy-before"));
  for (int i = 0; i < 5; ++i)
    cluster_->Step();
  EXPECT_EQ(cluster_->BoundPods(), pods) << "adopted, and up to date";
  EXPECT_THAT(cluster_->starts(), ElementsAre(Pair("n1", 2), Pair("n2", 2)));
  EXPECT_TRUE(cluster_->HasConfigMap(name)) << "its Pods have it mounted";

  // Without the ProxyConfiguration kube-proxy stays as it is.
  Kubectl({"delete", "pxc", "cluster", "--wait=false"});
  ASSERT_TRUE(Until([&] {
    return client_->List(kube::resources::kProxyConfigurations, "").empty() &&
           client_->List(kube::resources::kNodeProxies, "").empty();
  }));
  EXPECT_EQ(cluster_->File(), FileWith("nftables"));
  EXPECT_EQ(cluster_->Set()["spec"], cluster_->first_set()["spec"]);
  EXPECT_EQ(cluster_->BoundPods(), pods);
  EXPECT_TRUE(cluster_->HasConfigMap(name));
  // With the last Pod that was made with it its ConfigMap goes.
  for (const char* each : {"n1", "n2"}) {
    const std::string uid = cluster_->BoundPods().at(each);
    const std::string pod =
        Kubectl({"get", "pods", "-n", "kube-system", "-o",
                 "jsonpath={.items[?(@.metadata.uid=='" + uid + "')].metadata.name}"});
    Kubectl({"delete", "pod", "-n", "kube-system", pod});
    ASSERT_TRUE(Until([&] { return cluster_->Down() == 0; }));
    EXPECT_EQ(cluster_->Mode(each), "nftables");
  }
  EXPECT_TRUE(Until([&] { return !cluster_->HasConfigMap(name); }));
}

// A deletion in the middle: the nodes go back to what the cluster's own ConfigMap says.
TEST_F(ProviderE2eTest, DeletedInTheMiddleNodesGoBackToTheClustersOwnFile) {
  ApplyProvider();
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n1") == "nftables"; }))
      << Condition("Progressing");
  Kubectl({"delete", "pxc", "cluster", "--wait=false"});
  ASSERT_TRUE(Until([&] {
    return client_->List(kube::resources::kProxyConfigurations, "").empty();
  })) << Condition("Progressing");
  EXPECT_EQ(BoundNodes(), "");
  EXPECT_TRUE(cluster_->RevisionSets().empty());
  EXPECT_EQ(cluster_->Set()["spec"], cluster_->first_set()["spec"]);
  EXPECT_EQ(cluster_->File(), FileWith("ipvs"));
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n1") == "ipvs"; }));
  EXPECT_EQ(cluster_->Mode("n2"), "ipvs");
}

}  // namespace
}  // namespace pointsman::op
