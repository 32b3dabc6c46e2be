// Drives the real server with the real kubectl, an old and a current one.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

namespace pointsman::e2e {
namespace {

using Json = nlohmann::json;

std::string readAll(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

struct Result {
  int code = -1;
  std::string out;  // standard output and error together
};

pid_t spawn(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
            const std::filesystem::path& input, const std::filesystem::path& output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, input.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  std::vector<char*> args;
  args.reserve(argv.size() + 1);
  for (const std::string& a : argv)
    args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  std::vector<char*> env;
  env.reserve(environment.size() + 1);
  for (const std::string& e : environment)
    env.push_back(const_cast<char*>(e.c_str()));
  env.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, argv[0].c_str(), &actions, nullptr, args.data(), env.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::system_error(error, std::generic_category(), "posix_spawn " + argv[0]);
  return pid;
}

std::string variable(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets a variable.
  const char* value = getenv(name);
  return value != nullptr ? value : "";
}

/// The parameter: which kubectl, and which server version it meets.
struct Pair {
  const char* variable;
  const char* emulate;
};

class KubectlTest : public ::testing::TestWithParam<Pair> {
 protected:
  void SetUp() override {
    kubectl_ = variable(GetParam().variable);
    if (kubectl_.empty() && std::string(GetParam().variable) == "POINTSMAN_KUBECTL") {
      std::stringstream path(variable("PATH"));
      for (std::string dir; kubectl_.empty() && std::getline(path, dir, ':');) {
        if (access((dir + "/kubectl").c_str(), X_OK) == 0) kubectl_ = dir + "/kubectl";
      }
    }
    if (kubectl_.empty()) {
      GTEST_SKIP() << "no kubectl: set " << GetParam().variable << " to its path";
    }
    std::string pattern = ::testing::TempDir() + "pmkubectl-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    startServer();
  }
  void TearDown() override {
    stopServer(SIGTERM);
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  void startServer(const std::string& listen = "127.0.0.1:0") {
    std::filesystem::remove(dir_ / "ready");
    server_ = spawn({POINTSMAN_CONTROL_PLANE, "--data-dir", dir_ / "data", "--pki-dir",
                     dir_ / "pki", "--listen", listen, "--ready-file", dir_ / "ready",
                     "--emulate-version", GetParam().emulate, "--log-level", "debug"},
                    {}, "/dev/null", dir_ / "server.log");
    // The ready file is the server's own signal; a server that ends instead says why in its log.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!std::filesystem::exists(dir_ / "ready")) {
      int status = 0;
      ASSERT_EQ(waitpid(server_, &status, WNOHANG), 0) << readAll(dir_ / "server.log");
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << readAll(dir_ / "server.log");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  int stopServer(int signal) {
    if (server_ <= 0) return 0;
    kill(server_, signal);
    int status = 0;
    waitpid(server_, &status, 0);
    server_ = -1;
    return status;
  }
  std::string address() const {
    std::string url = readAll(dir_ / "ready");
    url.erase(url.find_last_not_of('\n') + 1);
    return url.substr(std::string("https://").size());
  }

  pid_t start(const std::vector<std::string>& arguments, const std::string& input,
              const std::filesystem::path& output, std::filesystem::path config = {}) {
    if (config.empty()) config = dir_ / "pki" / "admin.kubeconfig";
    const auto in = dir_ / ("in" + std::to_string(++counter_));
    std::ofstream(in) << input;
    std::vector<std::string> argv{kubectl_};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return spawn(argv, {"KUBECONFIG=" + config.string(), "HOME=" + dir_.string()}, in, output);
  }
  Result run(const std::vector<std::string>& arguments, const std::string& input = "",
             const std::filesystem::path& config = {}) {
    const auto out = dir_ / "out";
    const pid_t pid = start(arguments, input, out, config);
    int status = 0;
    waitpid(pid, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, readAll(out)};
  }
  void expectOk(const std::vector<std::string>& arguments, const std::string& contains,
                const std::string& input = "") {
    const Result r = run(arguments, input);
    EXPECT_EQ(r.code, 0) << arguments[0] << ": " << r.out;
    EXPECT_NE(r.out.find(contains), std::string::npos) << arguments[0] << ": " << r.out;
  }

  std::string kubectl_;
  std::filesystem::path dir_;
  pid_t server_ = -1;
  int counter_ = 0;
};

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
  expectOk({"apply", "-f", "-"}, "service/web created", kService);
  expectOk({"apply", "-f", "-"}, "service/web unchanged", kService);
  std::string changed = kService;
  changed.replace(changed.find("8080"), 4, "9090");
  expectOk({"apply", "-f", "-"}, "service/web configured", changed);
  // The other port is still there: the lists were merged by their keys.
  expectOk({"get", "svc", "web", "-o", "jsonpath={.spec.ports[*].targetPort}"}, "9090 53");
  expectOk({"get", "svc", "-l", "app in (web,x)", "-o", "wide"}, "app=web");
  expectOk({"describe", "svc", "web"}, "9090/TCP");
  expectOk({"patch", "svc", "web", "--type=merge", "-p", R"({"metadata":{"labels":{"a":"b"}}})"},
           "patched");
  expectOk({"patch", "svc", "web", "--type=json", "-p",
            R"([{"op":"replace","path":"/spec/ports/0/port","value":81}])"},
           "patched");
  expectOk({"delete", "svc", "web"}, "deleted");
  EXPECT_NE(run({"get", "svc", "web"}).out.find("NotFound"), std::string::npos);
}

TEST_P(KubectlTest, RefusesWhatARealServerRefuses) {
  std::string bad = kService;
  bad.replace(bad.find("port: 80,"), 9, "port: 80000,");
  const Result r = run({"apply", "-f", "-"}, bad);
  EXPECT_NE(r.code, 0);
  EXPECT_NE(r.out.find("must be between 1 and 65535, inclusive"), std::string::npos) << r.out;
  EXPECT_NE(run({"create", "-f", "-", "--namespace=nowhere"}, kService).code, 0);
  EXPECT_EQ(run({"create", "-f", "-"}, kService).code, 0);
  EXPECT_NE(run({"create", "-f", "-"}, kService).out.find("AlreadyExists"), std::string::npos);
}

TEST_P(KubectlTest, ServesCustomResources) {
  expectOk({"apply", "-f", "-"}, "created", kCrd);
  expectOk({"wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"},
           "condition met");
  expectOk({"api-resources", "--api-group=example.com"}, "wd");
  const std::string widget =
      "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n";
  expectOk({"apply", "-f", "-"}, "created", widget);
  expectOk({"apply", "-f", "-"}, "unchanged", widget);
  expectOk({"get", "wd", "w", "-o", "jsonpath={.spec.colour}/{.metadata.generation}"}, "red/1");
  const std::string broken =
      "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: x}\nspec: {size: 0}\n";
  const Result r = run({"apply", "--validate=false", "-f", "-"}, broken);
  EXPECT_NE(r.code, 0);
  EXPECT_NE(r.out.find("spec.size"), std::string::npos) << r.out;
  expectOk({"explain", "widget.spec"}, "What the widget shall be.");
  expectOk({"get", "widgets"}, "SIZE");
  expectOk({"delete", "crd", "widgets.example.com"}, "deleted");
}

TEST_P(KubectlTest, ServerSideApplyKnowsWhoOwnsWhat) {
  const std::string map =
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1', b: '2'}\n";
  const std::string other =
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '9'}\n";
  expectOk({"apply", "--server-side", "-f", "-"}, "serverside-applied", map);
  const Result r = run({"apply", "--server-side", "--field-manager=other", "-f", "-"}, other);
  EXPECT_NE(r.code, 0);
  EXPECT_NE(r.out.find("conflict with \"kubectl\": .data.a"), std::string::npos) << r.out;
  expectOk({"apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"},
           "serverside-applied", other);
  expectOk({"get", "cm", "m", "-o", "jsonpath={.data.a}{.data.b}"}, "92");
  // kubectl gives up b, nobody else has it: it goes. a belongs to the other.
  const std::string less = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
  expectOk({"apply", "--server-side", "-f", "-"}, "serverside-applied", less);
  expectOk({"get", "cm", "m", "-o", "jsonpath={.data}"}, R"({"a":"9"})");
}

TEST_P(KubectlTest, KeepsEverythingAcrossKill9) {
  expectOk({"apply", "-f", "-"}, "created", kCrd);
  for (int i = 0; i < 5; ++i) {
    expectOk({"create", "configmap", "m" + std::to_string(i), "--from-literal=k=v"}, "created");
  }
  const std::string where = address();
  stopServer(SIGKILL);
  startServer(where);
  expectOk({"get", "cm", "m4", "-o", "jsonpath={.data.k}"}, "v");
  expectOk({"get", "widgets"}, "No resources found");
  EXPECT_EQ(stopServer(SIGTERM), 0) << readAll(dir_ / "server.log");
}

TEST_P(KubectlTest, WatchesShowChangesAsTheyHappen) {
  const auto out = dir_ / "watch.out";
  const pid_t watcher = start({"get", "configmaps", "-w", "--request-timeout=20s"}, "", out);
  const auto waitForText = [&](const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    while (readAll(out).find(text) == std::string::npos) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
  };
  EXPECT_TRUE(waitForText("kube-root-ca.crt"));
  expectOk({"create", "configmap", "seen", "--from-literal=k=v"}, "created");
  EXPECT_TRUE(waitForText("seen")) << readAll(out);
  kill(watcher, SIGTERM);
  waitpid(watcher, nullptr, 0);
}

TEST_P(KubectlTest, PagesAndExpires) {
  for (int i = 0; i < 7; ++i) {
    expectOk({"create", "configmap", "p" + std::to_string(i), "--from-literal=k=v"}, "created");
  }
  expectOk({"get", "cm", "--chunk-size=3"}, "p6");
  const Result page = run({"get", "--raw", "/api/v1/namespaces/default/configmaps?limit=3"});
  const Json list = Json::parse(page.out);
  ASSERT_EQ(list["items"].size(), 3u);
  EXPECT_EQ(list["metadata"]["remainingItemCount"], 5);
  const std::string token = list["metadata"]["continue"];
  const std::string next = "/api/v1/namespaces/default/configmaps?limit=9&continue=" + token;
  expectOk({"delete", "cm", "p5"}, "deleted");
  const Json rest = Json::parse(run({"get", "--raw", next}).out);
  EXPECT_EQ(rest["items"].size(), 5u);  // as of the first page
  EXPECT_EQ(rest["metadata"]["resourceVersion"], list["metadata"]["resourceVersion"]);
  expectOk({"replace", "--raw", "/pointsman-debug/faults", "-f", "-"}, "rules",
           R"({"expire":true})");
  EXPECT_NE(run({"get", "--raw", next}).code, 0);
  const Result watch =
      run({"get", "--raw", "/api/v1/configmaps?watch=1&timeoutSeconds=2&resourceVersion=2"});
  EXPECT_NE(watch.out.find("\"code\":410"), std::string::npos) << watch.out;
}

TEST_P(KubectlTest, ForbidsWhatNoRoleAllows) {
  const auto config = dir_ / "bob.kubeconfig";
  const pid_t pid =
      spawn({POINTSMAN_CONTROL_PLANE, "kubeconfig", "--pki-dir", dir_ / "pki", "--user", "bob",
             "--group", "ops", "--server", "https://" + address(), "--out", config},
            {}, "/dev/null", dir_ / "mint.out");
  int status = 0;
  waitpid(pid, &status, 0);
  ASSERT_EQ(status, 0) << readAll(dir_ / "mint.out");
  const Result refused = run({"get", "svc"}, "", config);
  EXPECT_NE(refused.code, 0);
  EXPECT_NE(refused.out.find(R"(User "bob" cannot list resource "services" in API group "")"),
            std::string::npos)
      << refused.out;
  expectOk({"create", "role", "reader", "--verb=get,list", "--resource=services"}, "created");
  expectOk({"create", "rolebinding", "ops-read", "--role=reader", "--group=ops"}, "created");
  EXPECT_EQ(run({"get", "svc"}, "", config).code, 0);
  EXPECT_NE(run({"delete", "svc", "kubernetes"}, "", config).code, 0);
  EXPECT_NE(run({"get", "svc", "-n", "kube-system"}, "", config).code, 0);
  EXPECT_NE(run({"get", "--raw", "/pointsman-debug/faults"}, "", config).code, 0);
}

TEST_P(KubectlTest, DeletesANamespaceWithWhatIsInIt) {
  expectOk({"create", "namespace", "gone"}, "created");
  expectOk({"create", "configmap", "inside", "-n", "gone", "--from-literal=a=b"}, "created");
  expectOk({"delete", "namespace", "gone", "--timeout=20s"}, "deleted");
  EXPECT_NE(run({"get", "cm", "inside", "-n", "gone"}).code, 0);
}

INSTANTIATE_TEST_SUITE_P(Versions, KubectlTest,
                         ::testing::Values(Pair{"POINTSMAN_KUBECTL_120", "1.20"},
                                           Pair{"POINTSMAN_KUBECTL", "1.35"}),
                         [](const auto& p) {
                           return p.param.variable == std::string("POINTSMAN_KUBECTL") ? "Current"
                                                                                       : "Old";
                         });

}  // namespace
}  // namespace pointsman::e2e
