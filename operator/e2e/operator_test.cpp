// The operator's program against an API server, driven by kubectl, with agents that answer as real
// ones do but have no kernel.
#include <arpa/inet.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <sys/socket.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/testbed/process.h"
#include "kube/cache/informer.h"
#include "kube/client/client.h"
#include "kube/config/config.h"
#include "kube/http/transport.h"
#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/queue/work_queue.h"
#include "kube/testing/eventually.h"
#include "kube/time/rfc3339.h"

namespace pointsman::op {
namespace {

using kube::ConditionStatus;
using kube::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

// Answers every NodeProxy, each a little later than it was asked, and keeps the most that were
// changing at one time. Only ipvs_nodes can run ipvs.
class FakeAgents {
 public:
  FakeAgents(kube::Client& client, std::set<std::string> ipvs_nodes)
      : client_(client),
        ipvs_nodes_(std::move(ipvs_nodes)),
        informer_(kube::MakeJsonInformer(client, kube::resources::kNodeProxies)) {
    informer_->AddHandler([this](const auto&, const auto& after) {
      if (after) queue_.AddAfter((*after)["metadata"]["name"].template get<std::string>(), 30ms);
      CountChanging();
    });
    informer_->Start();
    worker_ = std::thread([this] { Work(); });
  }
  ~FakeAgents() {
    queue_.ShutDown();
    worker_.join();
  }

  int most_changing() const { return most_changing_; }

 private:
  void CountChanging() {
    int changing = 0;
    for (const auto& object : informer_->All()) {
      const kube::NodeProxy proxy = kube::NodeProxyFromJson(*object);
      if (proxy.spec.revision > 0 && proxy.status.observed_revision != proxy.spec.revision) {
        ++changing;
      }
    }
    most_changing_ = std::max(most_changing_.load(), changing);
  }

  void Work() {
    while (const auto name = queue_.Get()) {
      try {
        Answer(*name);
        queue_.Forget(*name);
      } catch (const std::exception& error) {
        spdlog::info("fake agent of {}: {}", *name, error.what());
        queue_.AddRateLimited(*name);
      }
      queue_.Done(*name);
    }
  }

  void Answer(const std::string& name) {
    const auto object = informer_->Get(name);
    if (!object) return;
    const kube::NodeProxy proxy = kube::NodeProxyFromJson(*object);
    kube::NodeProxyStatus status = proxy.status;
    const auto runs = [&](kube::Mode mode) {
      return mode == kube::Mode::kIptables || ipvs_nodes_.contains(name);
    };
    status.observed_generation = proxy.generation;
    const auto set = [&](const char* type, bool value, const char* reason, const char* message) {
      kube::SetCondition(status.conditions,
                         {type, value ? ConditionStatus::kTrue : ConditionStatus::kFalse, reason,
                          message, "", proxy.generation},
                         kube::NowRfc3339());
    };
    constexpr const char* kMissing = "this kernel has no ip_vs";
    status.candidate.reset();
    if (const auto& asked = proxy.spec.candidate) {
      const bool passed = runs(asked->mode);
      status.candidate = kube::CandidateStatus{
          asked->revision, passed ? std::string(kube::ToString(asked->mode)) : "iptables", passed,
          passed ? "" : kMissing};
    }
    status.kube_proxy.reset();
    if (proxy.spec.remove_kube_proxy)
      status.kube_proxy = kube::KubeProxyStatus{kube::kKubeProxyRemoved, ""};
    if (proxy.spec.removed) {
      status.active_mode.clear();
      set("Ready", false, "Removed", "removed");
    } else if (proxy.spec.revision > 0) {
      const bool passed = runs(proxy.spec.settings.mode);
      status.active_mode =
          passed ? std::string(kube::ToString(proxy.spec.settings.mode)) : "iptables";
      status.observed_revision = proxy.spec.revision;
      set("PreflightPassed", passed, passed ? "PreflightPassed" : "ModuleMissing",
          passed ? "" : kMissing);
      set("Ready", true, "Serving", "");
      set("Degraded", !passed, passed ? "DesiredModeActive" : "Fallback", "");
    }
    if (status == proxy.status) return;
    Json patch = ToJson(status);
    for (const char* member : {"candidate", "kubeProxy"}) {
      if (!patch.contains(member)) patch[member] = nullptr;
    }
    client_.Patch(kube::resources::kNodeProxies, "", name, kube::PatchType::kMerge,
                  {{"status", patch}}, "status");
  }

  kube::Client& client_;
  const std::set<std::string> ipvs_nodes_;
  std::atomic<int> most_changing_{0};
  kube::WorkQueue queue_;
  std::unique_ptr<kube::JsonInformer> informer_;
  std::thread worker_;
};

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

class OperatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* kubectl = std::getenv("POINTSMAN_KUBECTL");  // NOLINT(concurrency-mt-unsafe)
    if (kubectl != nullptr) kubectl_ = kubectl;
    std::string pattern = (std::filesystem::temp_directory_path() / "pointsman-op-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    server_ = e2e::Spawn(
        {.argv = {Program("pointsman-control-plane"), "--listen", "127.0.0.1:0", "--pki-dir",
                  File("pki"), "--ready-file", File("ready"), "--no-controllers"},
         .log = File("server.log")});
    ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(File("ready")); }))
        << Read("server.log");
    kubeconfig_ = File("pki/admin.kubeconfig");
    client_ =
        std::make_unique<kube::Client>(kube::MakeTransport(kube::LoadKubeconfig(kubeconfig_)));
    Kubectl({"create", "namespace", "pointsman-system"});
    Kubectl({"apply", "-f", std::string(POINTSMAN_CRDS_DIR) + "/pointsman.io_nodeproxies.yaml",
             "-f", std::string(POINTSMAN_CRDS_DIR) + "/pointsman.io_proxyconfigurations.yaml"});
    Kubectl({"wait", "--for=condition=Established", "crd/proxyconfigurations.pointsman.io",
             "crd/nodeproxies.pointsman.io", "--timeout=30s"});
    for (const char* name : {"n1", "n2", "n3"}) {
      client_->Create(kube::resources::kNodes, "",
                      {{"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", {{"name", name}}}});
      client_->Patch(kube::resources::kNodes, "", name, kube::PatchType::kStrategicMerge,
                     {{"status", {{"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}},
                     "status");
    }
    StartOperator();
  }

  void TearDown() override {
    agents_.reset();
    operator_.Kill();
    server_.Kill();
    if (HasFailure()) {
      std::cerr << "--- operator\n" << Read("operator.log") << "--- server\n" << Read("server.log");
    }
    std::filesystem::remove_all(directory_);
  }

  static std::string Program(const std::string& name) {
    return std::string(POINTSMAN_BIN_DIR) + "/" + name;
  }
  std::string File(const std::string& name) const { return (directory_ / name).string(); }
  std::string Read(const std::string& name) const {
    std::ifstream file(File(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // Looks again and again, for at most a minute.
  void StartOperator() {
    operator_ = e2e::Spawn(
        {.argv = {Program("pointsman-operator"), "--kubeconfig", kubeconfig_, "--namespace",
                  "pointsman-system", "--metrics-bind-address", "127.0.0.1:" + FreePort(),
                  "--health-probe-bind-address", "0", "--log-level", "debug"},
         .log = File("operator.log")});
  }

  std::string FreePort() {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    metrics_port_ = ntohs(address.sin_port);
    return std::to_string(metrics_port_);
  }

  std::string Metrics() const {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(metrics_port_);
    std::string text;
    const std::string request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
        write(fd.get(), request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
      std::array<char, 4096> buffer{};
      for (ssize_t got = 0; (got = read(fd.get(), buffer.data(), buffer.size())) > 0;) {
        text.append(buffer.data(), static_cast<size_t>(got));
      }
    }
    return text;
  }

  e2e::RunResult TryKubectl(const std::vector<std::string>& arguments,
                            const std::string& input = "") {
    std::vector<std::string> argv{kubectl_, "--kubeconfig", kubeconfig_};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return e2e::Run({.argv = std::move(argv), .env = {{"HOME", directory_.string()}}}, input, 90s);
  }
  std::string Kubectl(const std::vector<std::string>& arguments, const std::string& input = "") {
    const e2e::RunResult result = TryKubectl(arguments, input);
    EXPECT_EQ(result.exit, 0) << ::testing::PrintToString(arguments) << "\n" << result.out;
    return result.out;
  }
  void Apply(const std::string& mode, const std::string& more = "") {
    Kubectl({"apply", "-f", "-"},
            "apiVersion: pointsman.io/v1alpha1\nkind: ProxyConfiguration\n"
            "metadata: {name: cluster}\nspec:\n  mode: " +
                mode + "\n  rollout: {canary: {nodes: 0}, minReady: 0s}\n" + more);
  }
  // Nodes that run that mode, as the ProxyConfiguration says.
  bool Complete(const std::string& mode, int nodes) {
    const Json object = client_->Get(kube::resources::kProxyConfigurations, "", "cluster");
    const Json status = object.value("status", Json::object());
    return status.value("phase", "") == "Complete" &&
           status.value("observedGeneration", 0) == object["metadata"]["generation"] &&
           status["modes"].value(mode, 0) == nodes;
  }

  std::string kubectl_ = "kubectl";
  std::filesystem::path directory_;
  std::string kubeconfig_;
  uint16_t metrics_port_ = 0;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<FakeAgents> agents_;
  e2e::Process server_;
  e2e::Process operator_;
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
