// Drives an API server with the real kubectl: pointsman-control-plane with an old and a current
// one, and, where KUBEBUILDER_ASSETS names its programs, a real kube-apiserver, which shows that
// ours answers as a real one does.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <unistd.h>

#include "e2e/control-plane/testing/api_server_process.h"
#include "e2e/control-plane/testing/environment_variable.h"
#include "e2e/testbed/process.h"

namespace pointsman::e2e {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

std::string ReadAll(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string FindKubectl() {
  std::stringstream path(EnvironmentVariable("PATH"));
  for (std::string dir; std::getline(path, dir, ':');) {
    if (access((dir + "/kubectl").c_str(), X_OK) == 0) return dir + "/kubectl";
  }
  return "";
}

// The parameter: which kubectl, and which server it meets.
struct Pair {
  const char* name;
  const char* variable;  // of kubectl's path
  const char* emulate;   // empty: a real kube-apiserver
};

void PrintTo(const Pair& pair, std::ostream* out) {
  *out << pair.name;
}

class KubectlTest : public testing::TestWithParam<Pair> {
 protected:
  void SetUp() override {
    const Pair& pair = GetParam();
    kubectl_ = EnvironmentVariable(pair.variable);
    if (kubectl_.empty() && std::string(pair.variable) == "POINTSMAN_KUBECTL")
      kubectl_ = FindKubectl();
    if (kubectl_.empty()) GTEST_SKIP() << "no kubectl: set " << pair.variable << " to its path";
    const std::string assets = EnvironmentVariable("KUBEBUILDER_ASSETS");
    if (IsReal() && assets.empty())
      GTEST_SKIP() << "no real API server: set KUBEBUILDER_ASSETS to the directory of etcd and "
                      "kube-apiserver";
    std::string pattern = testing::TempDir() + "pmkubectl-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    server_ = IsReal() ? MakeRealApiServer(dir_, assets) : MakeOwnApiServer(dir_, pair.emulate);
    server_->Start();
  }
  void TearDown() override {
    server_.reset();
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  static bool IsReal() { return *GetParam().emulate == '\0'; }

  SpawnOptions Command(const std::vector<std::string>& arguments,
                       std::filesystem::path config) const {
    SpawnOptions options;
    options.argv = {kubectl_};
    options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
    if (config.empty()) config = server_->AdminKubeconfig();
    options.env = {{"KUBECONFIG", config.string()}, {"HOME", dir_.string()}};
    return options;
  }
  RunResult Kubectl(const std::vector<std::string>& arguments, const std::string& input = "",
                    const std::filesystem::path& config = {}) const {
    return e2e::Run(Command(arguments, config), input);
  }
  void ExpectOk(const std::vector<std::string>& arguments, const std::string& contains,
                const std::string& input = "") const {
    const RunResult r = Kubectl(arguments, input);
    EXPECT_EQ(r.exit, 0) << arguments[0] << ": " << r.out;
    EXPECT_THAT(r.out, HasSubstr(contains)) << arguments[0];
  }
  void ExpectRefused(const RunResult& r, const std::string& contains) const {
    EXPECT_NE(r.exit, 0) << r.out;
    EXPECT_THAT(r.out, HasSubstr(contains));
  }

  std::string kubectl_;
  std::filesystem::path dir_;
  std::unique_ptr<ApiServerProcess> server_;
};

// What needs controllers, or faults on request, which a real API server alone does not have.
class OwnServerTest : public KubectlTest {};

constexpr const char* kService = R"(apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]
)";

constexpr const char* kCrd = R"(apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What the widget shall be.
            required: [size]
            properties:
              size: {type: integer, minimum: 1}
              colour: {type: string, default: red}
          status:
            type: object
            properties:
              conditions:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items:
                  type: object
                  required: [type, status]
                  properties: {type: {type: string}, status: {type: string}}
)";

TEST_P(KubectlTest, AppliesGetsDescribesAndDeletesAService) {
  ExpectOk({"apply", "-f", "-"}, "service/web created", kService);
  ExpectOk({"apply", "-f", "-"}, "service/web unchanged", kService);
  std::string changed = kService;
  changed.replace(changed.find("8080"), 4, "9090");
  ExpectOk({"apply", "-f", "-"}, "service/web configured", changed);
  // The other port is still there: the lists were merged by their keys.
  ExpectOk({"get", "svc", "web", "-o", "jsonpath={.spec.ports[*].targetPort}"}, "9090 53");
  ExpectOk({"get", "svc", "-l", "app in (web,x)", "-o", "wide"}, "app=web");
  ExpectOk({"describe", "svc", "web"}, "9090/TCP");
  ExpectOk({"patch", "svc", "web", "--type=merge", "-p", R"({"metadata":{"labels":{"a":"b"}}})"},
           "patched");
  ExpectOk({"patch", "svc", "web", "--type=json", "-p",
            R"([{"op":"replace","path":"/spec/ports/0/port","value":81}])"},
           "patched");
  ExpectOk({"delete", "svc", "web"}, "deleted");
  ExpectRefused(Kubectl({"get", "svc", "web"}), "NotFound");
}

TEST_P(KubectlTest, RefusesWhatARealServerRefuses) {
  std::string bad = kService;
  bad.replace(bad.find("port: 80,"), 9, "port: 80000,");
  ExpectRefused(Kubectl({"apply", "-f", "-"}, bad), "must be between 1 and 65535, inclusive");
  ExpectRefused(Kubectl({"create", "-f", "-", "--namespace=nowhere"}, kService), "not found");
  ExpectOk({"create", "-f", "-"}, "created", kService);
  ExpectRefused(Kubectl({"create", "-f", "-"}, kService), "AlreadyExists");
}

TEST_P(KubectlTest, ServesCustomResources) {
  ExpectOk({"apply", "-f", "-"}, "created", kCrd);
  ExpectOk({"wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"},
           "condition met");
  ExpectOk({"api-resources", "--api-group=example.com"}, "wd");
  const std::string widget =
      "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n";
  ExpectOk({"apply", "-f", "-"}, "created", widget);
  ExpectOk({"apply", "-f", "-"}, "unchanged", widget);
  ExpectOk({"get", "wd", "w", "-o", "jsonpath={.spec.colour}/{.metadata.generation}"}, "red/1");
  const std::string broken =
      "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: x}\nspec: {size: 0}\n";
  ExpectRefused(Kubectl({"apply", "--validate=false", "-f", "-"}, broken), "spec.size");
  ExpectOk({"explain", "widget.spec"}, "What the widget shall be.");
  ExpectOk({"get", "widgets"}, "SIZE");
  ExpectOk({"delete", "crd", "widgets.example.com"}, "deleted");
}

// The product's own resources: what a cluster's users apply, what they may not, and the status that
// nodes write.
TEST_P(KubectlTest, ServesPointsmansResources) {
  ExpectOk({"apply", "-k", POINTSMAN_CRDS}, "created");
  ExpectOk({"wait", "--for=condition=Established", "crd/nodeproxies.pointsman.io",
            "crd/proxyconfigurations.pointsman.io", "--timeout=10s"},
           "condition met");
  const std::string example = ReadAll(std::filesystem::path(POINTSMAN_CRDS) / "examples/ipvs.yaml");
  ExpectOk({"apply", "-f", "-"}, "proxyconfiguration.pointsman.io/cluster created", example);
  ExpectOk({"get", "proxyconfigurations", "cluster", "-o", "jsonpath={.spec.mode}"}, "ipvs");
  std::string bad = example;
  bad.replace(bad.find("mode: ipvs"), 10, "mode: bpf");
  ExpectRefused(Kubectl({"apply", "--validate=false", "-f", "-"}, bad), "spec.mode");
  const std::string path = "/apis/pointsman.io/v1alpha1/proxyconfigurations/cluster";
  const Json before = Json::parse(Kubectl({"get", "--raw", path}).out);
  Json with_status = before;
  with_status["spec"]["mode"] = "iptables";
  with_status["status"] = {{"observedGeneration", 1}};
  const RunResult written =
      Kubectl({"replace", "--raw", path + "/status", "-f", "-"}, with_status.dump());
  ASSERT_EQ(written.exit, 0) << written.out;
  const Json after = Json::parse(written.out);
  EXPECT_EQ(after["status"]["observedGeneration"], 1);
  EXPECT_EQ(after["spec"], before["spec"]);  // a write of the status changes nothing else
  EXPECT_EQ(after["metadata"]["generation"], before["metadata"]["generation"]);
}

TEST_P(KubectlTest, ServerSideApplyKnowsWhoOwnsWhat) {
  const std::string map =
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1', b: '2'}\n";
  const std::string other =
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '9'}\n";
  ExpectOk({"apply", "--server-side", "-f", "-"}, "serverside-applied", map);
  ExpectRefused(Kubectl({"apply", "--server-side", "--field-manager=other", "-f", "-"}, other),
                "conflict with \"kubectl\": .data.a");
  ExpectOk({"apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"},
           "serverside-applied", other);
  ExpectOk({"get", "cm", "m", "-o", "jsonpath={.data.a}{.data.b}"}, "92");
  // kubectl gives up b, which nothing else has: it goes. a belongs to the other.
  const std::string less = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
  ExpectOk({"apply", "--server-side", "-f", "-"}, "serverside-applied", less);
  ExpectOk({"get", "cm", "m", "-o", "jsonpath={.data}"}, R"({"a":"9"})");
}

TEST_P(KubectlTest, WatchesShowChangesAsTheyHappen) {
  ExpectOk({"create", "configmap", "there", "--from-literal=k=v"}, "created");
  SpawnOptions options = Command({"get", "configmaps", "-w", "--request-timeout=20s"}, {});
  options.log = dir_ / "watch.out";
  Process watcher = Spawn(options);
  const auto shows = [&](const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    while (ReadAll(options.log).find(text) == std::string::npos) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
  };
  EXPECT_TRUE(shows("there")) << ReadAll(options.log);
  ExpectOk({"create", "configmap", "seen", "--from-literal=k=v"}, "created");
  EXPECT_TRUE(shows("seen")) << ReadAll(options.log);
}

TEST_P(KubectlTest, PagesAreOfOneVersion) {
  for (int i = 0; i < 7; ++i)
    ExpectOk({"create", "configmap", "p" + std::to_string(i), "--from-literal=k=v"}, "created");
  ExpectOk({"get", "cm", "--chunk-size=3"}, "p6");
  const std::string path = "/api/v1/namespaces/default/configmaps";
  const std::size_t all = Json::parse(Kubectl({"get", "--raw", path}).out)["items"].size();
  const Json list = Json::parse(Kubectl({"get", "--raw", path + "?limit=3"}).out);
  ASSERT_EQ(list["items"].size(), 3u);
  EXPECT_EQ(list["metadata"]["remainingItemCount"], all - 3);
  const std::string token = list["metadata"]["continue"];
  ExpectOk({"delete", "cm", "p5"}, "deleted");
  const Json rest = Json::parse(Kubectl({"get", "--raw", path + "?limit=9&continue=" + token}).out);
  EXPECT_EQ(rest["items"].size(), all - 3);  // as of the first page
  EXPECT_EQ(rest["metadata"]["resourceVersion"], list["metadata"]["resourceVersion"]);
}

TEST_P(KubectlTest, ForbidsWhatNoRoleAllows) {
  const auto config = server_->UserKubeconfig("bob", "ops");
  ExpectRefused(Kubectl({"get", "svc"}, "", config),
                R"(User "bob" cannot list resource "services" in API group "")");
  ExpectOk({"create", "role", "reader", "--verb=get,list", "--resource=services"}, "created");
  ExpectOk({"create", "rolebinding", "ops-read", "--role=reader", "--group=ops"}, "created");
  EXPECT_EQ(Kubectl({"get", "svc"}, "", config).exit, 0);
  EXPECT_NE(Kubectl({"delete", "svc", "kubernetes"}, "", config).exit, 0);
  EXPECT_NE(Kubectl({"get", "svc", "-n", "kube-system"}, "", config).exit, 0);
}

TEST_P(OwnServerTest, KeepsEverythingAcrossKill9) {
  ExpectOk({"apply", "-f", "-"}, "created", kCrd);
  for (int i = 0; i < 5; ++i)
    ExpectOk({"create", "configmap", "m" + std::to_string(i), "--from-literal=k=v"}, "created");
  server_->Stop(SIGKILL);
  server_->Start();
  ExpectOk({"get", "cm", "m4", "-o", "jsonpath={.data.k}"}, "v");
  ExpectOk({"get", "widgets"}, "No resources found");
  EXPECT_EQ(server_->Stop(SIGTERM), "exit status 0");
}

TEST_P(OwnServerTest, SaysThatAnOldVersionHasExpired) {
  ExpectOk({"create", "configmap", "a", "--from-literal=k=v"}, "created");
  const std::string path = "/api/v1/namespaces/default/configmaps?limit=1";
  const std::string token =
      Json::parse(Kubectl({"get", "--raw", path}).out)["metadata"]["continue"];
  ExpectOk({"create", "configmap", "b", "--from-literal=k=v"}, "created");
  ExpectOk({"replace", "--raw", "/pointsman-debug/faults", "-f", "-"}, "rules",
           R"({"expire":true})");
  EXPECT_NE(Kubectl({"get", "--raw", path + "&continue=" + token}).exit, 0);
  EXPECT_THAT(
      Kubectl({"get", "--raw", "/api/v1/configmaps?watch=1&timeoutSeconds=2&resourceVersion=2"})
          .out,
      HasSubstr("\"code\":410"));
}

TEST_P(OwnServerTest, KeepsFaultsForAdministrators) {
  EXPECT_NE(Kubectl({"get", "--raw", "/pointsman-debug/faults"}, "",
                    server_->UserKubeconfig("bob", "ops"))
                .exit,
            0);
}

TEST_P(OwnServerTest, DeletesANamespaceWithWhatIsInIt) {
  ExpectOk({"create", "namespace", "gone"}, "created");
  ExpectOk({"create", "configmap", "inside", "-n", "gone", "--from-literal=a=b"}, "created");
  ExpectOk({"delete", "namespace", "gone", "--timeout=20s"}, "deleted");
  EXPECT_NE(Kubectl({"get", "cm", "inside", "-n", "gone"}).exit, 0);
}

constexpr Pair kOld{"Old", "POINTSMAN_KUBECTL_120", "1.20"};
constexpr Pair kCurrent{"Current", "POINTSMAN_KUBECTL", "1.35"};
constexpr Pair kReal{"Real", "POINTSMAN_KUBECTL", ""};

std::string NameOf(const testing::TestParamInfo<Pair>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Servers, KubectlTest, testing::Values(kOld, kCurrent, kReal), NameOf);
INSTANTIATE_TEST_SUITE_P(Servers, OwnServerTest, testing::Values(kOld, kCurrent), NameOf);

}  // namespace
}  // namespace pointsman::e2e
