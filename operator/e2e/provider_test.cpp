// A stock kube-proxy is given another configuration with kubectl apply (provider KubeProxy), and
// its own objects are the cluster's again in the end.
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/testing/eventually.h"
#include "operator/e2e/kube_proxy_stage.h"
#include "operator/e2e/operator_fixture.h"

namespace pointsman::op {
namespace {

using kube::Json;
using ::testing::AllOf;
using ::testing::Contains;
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

constexpr const char* kRole = "pointsman-operator-kube-proxy-provider";

// The operator has the rights of manifests/base, and those of the overlay once they are applied.
class ProviderE2eTest : public OperatorTest {
 protected:
  void BeforeOperator() override {
    Kubectl({"delete", "node", "n3"});
    Kubectl({"label", "node", "n1", "n2", "kubernetes.io/os=linux"});
    cluster_ = std::make_unique<KubeProxyStage>(*client_, FileWith("ipvs"));
    cluster_->Step();
    cluster_->Step();
    agents_ = std::make_unique<FakeAgents>(
        *client_, std::set<std::string>{"n1", "n2"},
        [this](const std::string& node) { return cluster_->Mode(node); });
    ApplyManifests("base");
    operator_kubeconfig_ = File("pki/operator.kubeconfig");
    std::filesystem::copy_file(kubeconfig_, operator_kubeconfig_);
    std::string token =
        Kubectl({"-n", "pointsman-system", "create", "token", "pointsman-operator"});
    while (!token.empty() && token.back() == '\n')
      token.pop_back();
    const auto configure = [&](const std::vector<std::string>& arguments) {
      std::vector<std::string> argv = {"config", "--kubeconfig", operator_kubeconfig_};
      argv.insert(argv.end(), arguments.begin(), arguments.end());
      Kubectl(argv);
    };
    configure({"set-credentials", "operator", "--token", token});
    configure({"set-context", "--current", "--user", "operator"});
  }
  void TearDown() override {
    agents_.reset();
    OperatorTest::TearDown();
  }
  void ApplyManifests(const std::string& folder) {
    Kubectl({"apply", "-k", std::string(POINTSMAN_MANIFESTS_DIR) + "/" + folder});
  }
  // After the first node it waits.
  void ApplyProvider() {
    Kubectl({"apply", "-f", "-"},
            "apiVersion: pointsman.io/v1alpha1\nkind: ProxyConfiguration\n"
            "metadata: {name: cluster}\nspec:\n  provider: KubeProxy\n  mode: nftables\n"
            "  rollout: {canary: {nodes: 1, soak: 1h}, minReady: 0s}\n");
  }
  void GoOn() {
    Kubectl({"patch", "pxc", "cluster", "--type=merge", "-p",
             R"({"spec": {"rollout": {"canary": {"nodes": 0}}}})"});
  }
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
  bool ShowsBound(int nodes) const {
    return Metrics().find(fmt::format("\npointsman_operator_kube_proxy_bound_nodes {}\n", nodes)) !=
           std::string::npos;
  }
  // Nothing was denied to the operator, and it has used all that the role gives.
  void ExpectRightsAsUsed() {
    std::set<std::string> used;
    std::ifstream lines(File("access.log"));
    for (std::string line; std::getline(lines, line);) {
      const Json access = Json::parse(line);
      if (access.at("user") != "system:serviceaccount:pointsman-system:pointsman-operator")
        continue;
      EXPECT_EQ(access.at("allowed"), true) << line;
      if (access.at("namespace") == "kube-system")
        used.insert(access.at("verb").get<std::string>() + " " +
                    access.at("resource").get<std::string>());
    }
    const Json role =
        Json::parse(Kubectl({"-n", "kube-system", "get", "role", kRole, "-o", "json"}));
    for (const Json& rule : role.at("rules")) {
      for (const std::string verb : rule.at("verbs"))
        EXPECT_THAT(used, Contains(verb + " " + rule.at("resources")[0].get<std::string>()));
    }
  }

  std::unique_ptr<KubeProxyStage> cluster_;
};

TEST_F(ProviderE2eTest, KubeProxyGoesFromIpvsToNftablesNodeByNodeAndItsOwnObjectsSaySo) {
  ApplyManifests("overlays/kube-proxy-provider");
  ApplyProvider();
  // The first node.
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n1") == "nftables"; }))
      << Condition("Progressing");
  EXPECT_EQ(cluster_->Mode("n2"), "ipvs");
  EXPECT_THAT(BoundNodes(), AllOf(HasSubstr("n1"), Not(HasSubstr("n2"))));
  EXPECT_TRUE(Until([&] { return ShowsBound(1); })) << Metrics();
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

  // kube-proxy is upgraded in the middle: the DaemonSet of the revision follows, its Pod stays.
  const std::string uid = cluster_->BoundPods().at("n1");
  constexpr const char* kImage = "registry.k8s.io/kube-proxy:v1.33.1";
  Kubectl({"-n", "kube-system", "set", "image", "daemonset/kube-proxy",
           std::string("kube-proxy=") + kImage});
  const auto image = "/spec/template/spec/containers/0/image"_json_pointer;
  ASSERT_TRUE(Until([&] { return cluster_->Set(name)[image] == kImage; }));
  EXPECT_EQ(cluster_->BoundPods().at("n1"), uid);
  Json own = cluster_->first_set();
  own[image] = kImage;

  // Killed in the middle.
  operator_.Signal(SIGKILL);
  ASSERT_TRUE(operator_.WaitFor(10s));
  StartOperator();
  GoOn();
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n2") == "nftables"; }))
      << Condition("Progressing");
  const std::string second = cluster_->BoundPods().at("n2");

  // The revision becomes the cluster's own, and no Pod restarts for that.
  ASSERT_TRUE(Until([&] {
    return Complete("nftables", 2) && cluster_->RevisionSets().empty() && cluster_->Down() == 0 &&
           BoundNodes().empty() && ShowsBound(0);
  })) << Condition("Progressing");
  EXPECT_EQ(cluster_->File(), FileWith("nftables"));
  EXPECT_EQ(cluster_->ConfigMap()["data"]["kubeconfig.conf"], "kind: Config\n");
  EXPECT_EQ(cluster_->Set()["spec"], own["spec"]);
  EXPECT_FALSE(
      cluster_->Set()["metadata"]["annotations"].contains("pointsman.io/kube-proxy-before"));
  // But for the upgrade, where that was still to come.
  ASSERT_TRUE(
      Until([&] { return cluster_->Down() == 0 && cluster_->BoundPods().at("n1") != uid; }));
  for (int i = 0; i < 5; ++i)
    cluster_->Step();
  EXPECT_THAT(cluster_->starts(), ElementsAre(Pair("n1", 3), Pair("n2", 2)));
  const auto pods = cluster_->BoundPods();
  EXPECT_EQ(pods.at("n2"), second) << "adopted, and up to date";
  EXPECT_TRUE(cluster_->HasConfigMap(name)) << "its Pods have it mounted";

  // Without the ProxyConfiguration kube-proxy stays as it is.
  Kubectl({"delete", "pxc", "cluster", "--wait=false"});
  ASSERT_TRUE(Until([&] {
    return client_->List(kube::resources::kProxyConfigurations, "").empty() &&
           client_->List(kube::resources::kNodeProxies, "").empty();
  }));
  EXPECT_EQ(cluster_->File(), FileWith("nftables"));
  EXPECT_EQ(cluster_->Set()["spec"], own["spec"]);
  EXPECT_EQ(cluster_->BoundPods(), pods);
  // With the last Pod that was made with it its ConfigMap goes.
  EXPECT_TRUE(cluster_->HasConfigMap(name));
  const std::string pod =
      Kubectl({"get", "pods", "-n", "kube-system", "-o",
               "jsonpath={.items[?(@.metadata.uid=='" + second + "')].metadata.name}"});
  Kubectl({"delete", "pod", "-n", "kube-system", pod});
  EXPECT_TRUE(Until([&] { return !cluster_->HasConfigMap(name) && cluster_->Down() == 0; }));
  EXPECT_EQ(cluster_->Mode("n2"), "nftables");
  ExpectRightsAsUsed();
}

TEST_F(ProviderE2eTest, WithoutTheOverlayItSaysSoAndWithItGoesOnUntilItIsDeletedInTheMiddle) {
  ApplyProvider();
  Kubectl({"wait", "--for=condition=Accepted=false", "pxc/cluster", "--timeout=30s"});
  EXPECT_THAT(Condition("Accepted"), AllOf(HasSubstr("NotSupported"),
                                           HasSubstr("manifests/overlays/kube-proxy-provider")));
  ApplyManifests("overlays/kube-proxy-provider");
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n1") == "nftables"; }))
      << Condition("Progressing");
  Kubectl({"delete", "pxc", "cluster", "--wait=false"});
  ASSERT_TRUE(Until([&] {
    return client_->List(kube::resources::kProxyConfigurations, "").empty();
  })) << Condition("Progressing");
  // Back to what the cluster's own file says.
  EXPECT_EQ(BoundNodes(), "");
  EXPECT_TRUE(cluster_->RevisionSets().empty());
  EXPECT_EQ(cluster_->Set()["spec"], cluster_->first_set()["spec"]);
  EXPECT_EQ(cluster_->File(), FileWith("ipvs"));
  ASSERT_TRUE(Until([&] { return cluster_->Mode("n1") == "ipvs"; }));
  EXPECT_EQ(cluster_->Mode("n2"), "ipvs");
}

}  // namespace
}  // namespace pointsman::op
