// The operator's program against an API server, driven by kubectl, with agents that answer as real
// ones do but have no kernel.
#pragma once

#include <arpa/inet.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <netinet/in.h>
#include <set>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/testbed/process.h"
#include "kube/cache/informer.h"
#include "kube/client/client.h"
#include "kube/config/config.h"
#include "kube/http/transport.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/queue/work_queue.h"
#include "kube/testing/eventually.h"
#include "kube/time/rfc3339.h"

namespace pointsman::op {

// Answers every NodeProxy, each a little later than it was asked, and keeps the most that were
// changing at one time. Only ipvs_nodes can run another mode than iptables.
class FakeAgents {
 public:
  // With provider KubeProxy: the mode that a kube-proxy runs on that node now; "": none.
  using RunningMode = std::function<std::string(const std::string& node)>;

  FakeAgents(kube::Client& client, std::set<std::string> ipvs_nodes, RunningMode kube_proxy = {})
      : client_(client),
        ipvs_nodes_(std::move(ipvs_nodes)),
        kube_proxy_(std::move(kube_proxy)),
        informer_(kube::MakeJsonInformer(client, kube::resources::kNodeProxies)) {
    informer_->AddHandler([this](const auto&, const auto& after) {
      if (after)
        queue_.AddAfter((*after)["metadata"]["name"].template get<std::string>(),
                        std::chrono::milliseconds(30));
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
      kube::SetCondition(
          status.conditions,
          {type, value ? kube::ConditionStatus::kTrue : kube::ConditionStatus::kFalse, reason,
           message, "", proxy.generation},
          kube::NowRfc3339());
    };
    constexpr const char* kMissing = "this kernel has no ip_vs";
    status.candidate.reset();
    if (const auto& asked = proxy.spec.candidate) {
      const bool passed = runs(asked->mode);
      status.candidate = kube::CandidateStatus{
          asked->revision, passed ? std::string(kube::ToString(asked->mode)) : "iptables", passed,
          passed ? "" : kMissing, asked->provider};
    }
    status.kube_proxy.reset();
    if (proxy.spec.remove_kube_proxy)
      status.kube_proxy = kube::KubeProxyStatus{kube::kKubeProxyRemoved, ""};
    if (proxy.spec.removed) {
      status.active_mode.clear();
      set("Ready", false, "Removed", "removed");
    } else if (proxy.spec.provider == kube::Provider::kKubeProxy) {
      AnswerOfKubeProxy(proxy, status);
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
    kube::Json patch = ToJson(status);
    for (const char* member : {"candidate", "kubeProxy"}) {
      if (!patch.contains(member)) patch[member] = nullptr;
    }
    client_.Patch(kube::resources::kNodeProxies, "", name, kube::PatchType::kMerge,
                  {{"status", patch}}, "status");
  }

  // It looks again as long as kube-proxy does not run what is asked.
  void AnswerOfKubeProxy(const kube::NodeProxy& proxy, kube::NodeProxyStatus& status) {
    const std::string mode = kube_proxy_(proxy.name);
    const bool there = mode == kube::ToString(proxy.spec.settings.mode);
    if (there) {
      status.observed_revision = proxy.spec.revision;
      status.active_mode = mode;
    } else {
      queue_.AddAfter(proxy.name, std::chrono::milliseconds(200));
    }
    for (const auto& [type, value] : {std::pair("Ready", there), std::pair("Degraded", !there)}) {
      kube::SetCondition(
          status.conditions,
          {type, value ? kube::ConditionStatus::kTrue : kube::ConditionStatus::kFalse,
           there ? "Serving" : "NotInMode", there ? "" : "kube-proxy runs " + mode, "",
           proxy.generation},
          kube::NowRfc3339());
    }
  }

  kube::Client& client_;
  const std::set<std::string> ipvs_nodes_;
  const RunningMode kube_proxy_;
  std::atomic<int> most_changing_{0};
  kube::WorkQueue queue_;
  std::unique_ptr<kube::JsonInformer> informer_;
  std::thread worker_;
};

class OperatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* kubectl = std::getenv("POINTSMAN_KUBECTL");  // NOLINT(concurrency-mt-unsafe)
    if (kubectl != nullptr) kubectl_ = kubectl;
    std::string pattern = (std::filesystem::temp_directory_path() / "pointsman-op-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    std::vector<std::string> argv = {Program("pointsman-control-plane"),
                                     "--listen",
                                     "127.0.0.1:0",
                                     "--pki-dir",
                                     File("pki"),
                                     "--ready-file",
                                     File("ready"),
                                     "--access-log",
                                     File("access.log"),
                                     "--no-controllers"};
    server_ = e2e::Spawn({.argv = std::move(argv), .log = File("server.log")});
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
    operator_kubeconfig_ = kubeconfig_;
    BeforeOperator();
    if (!HasFatalFailure()) StartOperator();
  }
  // All is there but the operator.
  virtual void BeforeOperator() {}

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
    operator_ = e2e::Spawn({.argv = {Program("pointsman-operator"), "--kubeconfig",
                                     operator_kubeconfig_, "--namespace", "pointsman-system",
                                     "--metrics-bind-address", "127.0.0.1:" + FreePort(),
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
    return e2e::Run({.argv = std::move(argv), .env = {{"HOME", directory_.string()}}}, input,
                    std::chrono::seconds(90));
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
    const kube::Json object = client_->Get(kube::resources::kProxyConfigurations, "", "cluster");
    const kube::Json status = object.value("status", kube::Json::object());
    return status.value("phase", "") == "Complete" &&
           status.value("observedGeneration", 0) == object["metadata"]["generation"] &&
           status["modes"].value(mode, 0) == nodes;
  }

  std::string kubectl_ = "kubectl";
  std::filesystem::path directory_;
  std::string kubeconfig_;
  std::string operator_kubeconfig_;  // as whom the operator runs
  uint16_t metrics_port_ = 0;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<FakeAgents> agents_;
  e2e::Process server_;
  e2e::Process operator_;
};

}  // namespace pointsman::op
