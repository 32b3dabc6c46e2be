#include "operator/e2e/operator_fixture.h"

#include <arpa/inet.h>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <netinet/in.h>
#include <sys/socket.h>
#include <utility>

#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/config/config.h"
#include "kube/http/transport.h"
#include "kube/testing/eventually.h"

namespace pointsman::op {

void OperatorTest::SetUp() {
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
  client_ = std::make_unique<kube::Client>(kube::MakeTransport(kube::LoadKubeconfig(kubeconfig_)));
  Kubectl({"create", "namespace", "pointsman-system"});
  Kubectl({"apply", "-f", std::string(POINTSMAN_CRDS_DIR) + "/pointsman.io_nodeproxies.yaml", "-f",
           std::string(POINTSMAN_CRDS_DIR) + "/pointsman.io_proxyconfigurations.yaml"});
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

void OperatorTest::TearDown() {
  agents_.reset();
  operator_.Kill();
  server_.Kill();
  if (HasFailure()) {
    std::cerr << "--- operator\n" << Read("operator.log") << "--- server\n" << Read("server.log");
  }
  std::filesystem::remove_all(directory_);
}

std::string OperatorTest::Program(const std::string& name) {
  return std::string(POINTSMAN_BIN_DIR) + "/" + name;
}

std::string OperatorTest::Read(const std::string& name) const {
  std::ifstream file(File(name));
  return {std::istreambuf_iterator<char>(file), {}};
}

void OperatorTest::StartOperator() {
  operator_ = e2e::Spawn(
      {.argv = {Program("pointsman-operator"), "--kubeconfig", operator_kubeconfig_, "--namespace",
                "pointsman-system", "--metrics-bind-address", "127.0.0.1:" + FreePort(),
                "--health-probe-bind-address", "0", "--log-level", "debug"},
       .log = File("operator.log")});
}

std::string OperatorTest::FreePort() {
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

std::string OperatorTest::Metrics() const {
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

e2e::RunResult OperatorTest::TryKubectl(const std::vector<std::string>& arguments,
                                        const std::string& input) {
  std::vector<std::string> argv{kubectl_, "--kubeconfig", kubeconfig_};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return e2e::Run({.argv = std::move(argv), .env = {{"HOME", directory_.string()}}}, input,
                  std::chrono::seconds(90));
}

std::string OperatorTest::Kubectl(const std::vector<std::string>& arguments,
                                  const std::string& input) {
  const e2e::RunResult result = TryKubectl(arguments, input);
  EXPECT_EQ(result.exit, 0) << ::testing::PrintToString(arguments) << "\n" << result.out;
  return result.out;
}

void OperatorTest::Apply(const std::string& mode, const std::string& more) {
  Kubectl({"apply", "-f", "-"},
          "apiVersion: pointsman.io/v1alpha1\nkind: ProxyConfiguration\n"
          "metadata: {name: cluster}\nspec:\n  mode: " +
              mode + "\n  rollout: {canary: {nodes: 0}, minReady: 0s}\n" + more);
}

bool OperatorTest::Complete(const std::string& mode, int nodes) {
  const kube::Json object = client_->Get(kube::resources::kProxyConfigurations, "", "cluster");
  const kube::Json status = object.value("status", kube::Json::object());
  return status.value("phase", "") == "Complete" &&
         status.value("observedGeneration", 0) == object["metadata"]["generation"] &&
         status["modes"].value(mode, 0) == nodes;
}

}  // namespace pointsman::op
