// The agent as a whole, in this process, so that sanitizers see the threads that agent.cpp wires:
// on this machine's kernel in a network namespace of its own, with an API server that misbehaves.
#include "node-agent/agent/agent.h"

#include <arpa/inet.h>
#include <climits>
#include <csignal>
#include <fstream>
#include <netinet/in.h>
#include <sstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/serve/http_server.h"
#include "kube/testing/eventually.h"
#include "node-agent/agent/cleanup.h"
#include "node-agent/agent/list.h"
#include "node-agent/agent/testing/small_api_server.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/neighbours/kube_proxy.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/net_namespace.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/userspace/testing/forwarder_launcher.h"
#include "node-agent/userspace/testing/forwarder_program.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {
namespace {

using kube::Json;
using kube::Mode;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kNode[] = "node-1";
constexpr char kLauncher[] = "/run/pointsman/launcher.sock";
// Sanitizers make everything many times slower.
constexpr std::chrono::seconds kPatience{150};

bool Await(const std::function<bool()>& condition) {
  return Eventually(condition, kPatience);
}

// A TCP connection to `address`, if it is made within a second.
UniqueFd Connect(const std::string& address, uint16_t port) {
  const bool v6 = address.find(':') != std::string::npos;
  sockaddr_storage to{};
  socklen_t size = 0;
  if (v6) {
    auto& in6 = reinterpret_cast<sockaddr_in6&>(to);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    inet_pton(AF_INET6, address.c_str(), &in6.sin6_addr);
    size = sizeof(in6);
  } else {
    auto& in = reinterpret_cast<sockaddr_in&>(to);
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    inet_pton(AF_INET, address.c_str(), &in.sin_addr);
    size = sizeof(in);
  }
  UniqueFd fd(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval timeout{.tv_sec = 1, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), size) != 0) return {};
  return fd;
}

bool Connects(const std::string& address, uint16_t port) {
  return Connect(address, port).get() >= 0;
}

// The answer's text, with its head; "" when there is none.
std::string HttpGet(uint16_t port, const std::string& path) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::string answer;
  const std::string request =
      "GET " + path + " HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0 &&
      send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) > 0) {
    char buffer[65536];
    for (ssize_t n = 0; (n = recv(fd.get(), buffer, sizeof(buffer), 0)) > 0;)
      answer.append(buffer, static_cast<size_t>(n));
  }
  return answer;
}

bool IsOk(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 200");
}

// What all Services of the tests lead to: accepts, and closes again.
class Backend {
 public:
  Backend() : fd_(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(9000);
    const int on = 1;
    setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) != 0 ||
        listen(fd_.get(), 128) != 0) {
      throw std::system_error(errno, std::generic_category(), "the tests' backend");
    }
    thread_ = std::thread([this] {
      while (UniqueFd(accept(fd_.get(), nullptr, nullptr))) {
      }
    });
  }
  ~Backend() {
    shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

 private:
  const UniqueFd fd_;
  std::thread thread_;
};

class AgentTest : public ::testing::Test {
 protected:
  // Once: cpprestsdk's threads stay in the namespace in which the first request was made.
  static void EnterNamespaces() {
    static bool entered = false;
    if (std::exchange(entered, true)) return;
    ASSERT_TRUE(EnterFreshNetns());
    // The xtables lock, the forwarder's sockets; and where tools are looked for first.
    testing::EnterFreshMounts({"/run", "/usr/local/sbin"});
    std::filesystem::create_directories("/run/pointsman");
    testing::IpTool(
        "link set lo up\n"
        "link add eth0 type veth peer name wire\n"
        "link set eth0 up\n"
        "link set wire up\n"
        "address add 192.0.2.1/24 dev eth0\n"
        "address add 2001:db8::1/64 dev eth0 nodad\n"
        "route add default dev eth0\n"
        "route add ::/0 dev eth0\n");
  }

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to make namespaces";
    EnterNamespaces();
    backend_.emplace();
    launcher_.emplace(testing::ForwarderProgram(), kLauncher);
    api_ = std::make_unique<testing::SmallApiServer>();
    PutNode({"10.244.1.0/24"});
    PutService("kubernetes", 1);
    PutService("web", 10);
  }

  void TearDown() override {
    if (api_ == nullptr) return;
    StopAgent();
    for (const auto& wrapper : std::filesystem::directory_iterator("/usr/local/sbin"))
      std::filesystem::remove(wrapper.path());
    EXPECT_EQ(RunCleanup(AgentOptions()), 0);
    EXPECT_THAT(testing::RunTool({"nft", "list", "ruleset"}), Not(HasSubstr("pointsman")));
    api_.reset();
    launcher_.reset();
    backend_.reset();
  }

  void PutNode(const std::vector<std::string>& pod_cidrs, bool ipv6 = false) {
    Json addresses = {{{"type", "InternalIP"}, {"address", "192.0.2.1"}}};
    if (ipv6) addresses.push_back({{"type", "InternalIP"}, {"address", "2001:db8::1"}});
    api_->Put("nodes", {{"metadata", {{"name", kNode}}},
                        {"spec", {{"podCIDRs", pod_cidrs}}},
                        {"status", {{"addresses", addresses}}}});
  }

  // 10.96.0.<number>:80, and with `ipv6` [fd00:96::<number>]:80, lead to the backend.
  void PutService(const std::string& name, int number, bool ipv6 = false) {
    Json ips = {"10.96.0." + std::to_string(number)};
    if (ipv6) ips.push_back("fd00:96::" + std::to_string(number));
    api_->Put("services", {{"metadata", {{"namespace", "default"}, {"name", name}}},
                           {"spec",
                            {{"type", "ClusterIP"},
                             {"clusterIP", ips[0]},
                             {"clusterIPs", ips},
                             {"ports", {{{"name", "http"}, {"protocol", "TCP"}, {"port", 80}}}}}}});
    PutSlice(name, "IPv4", {"192.0.2.1"});
    if (ipv6) PutSlice(name, "IPv6", {"2001:db8::1"});
  }
  void PutSlice(const std::string& service, const std::string& family,
                const std::vector<std::string>& addresses) {
    Json endpoints = Json::array();
    for (const std::string& address : addresses) {
      endpoints.push_back(
          {{"addresses", {address}}, {"conditions", {{"ready", true}}}, {"nodeName", kNode}});
    }
    api_->Put("endpointslices",
              {{"metadata",
                {{"namespace", "default"},
                 {"name", service + "-" + family},
                 {"labels", {{"kubernetes.io/service-name", service}}}}},
               {"addressType", family},
               {"ports", {{{"name", "http"}, {"protocol", "TCP"}, {"port", 9000}}}},
               {"endpoints", endpoints}});
  }

  static kube::ProxySettings Settings(Mode mode) {
    kube::ProxySettings settings;
    settings.mode = mode;
    settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
    settings.iptables.sync_period = settings.nftables.sync_period = 1s;
    settings.drain_timeout = 1s;
    return settings;
  }

  void Ask(const kube::ProxySettings& settings, bool removed = false) {
    spec_.configuration = "cluster";
    ++spec_.revision;
    spec_.settings = settings;
    spec_.removed = removed;
    PutSpec();
  }
  void PutSpec() {
    Json proxy = api_->Get("nodeproxies", "", kNode);
    if (proxy.is_null()) proxy = {{"metadata", {{"name", kNode}}}};
    proxy["metadata"]["generation"] = ++generation_;
    proxy["spec"] = ToJson(spec_);
    api_->Put("nodeproxies", proxy);
  }

  Json Status() const {
    const Json proxy = api_->Get("nodeproxies", "", kNode);
    return proxy.value("status", Json::object());
  }
  Json Condition(const std::string& type) const {
    for (const Json& condition : Status().value("conditions", Json::array())) {
      if (condition.at("type") == type) return condition;
    }
    return Json::object();
  }
  bool Is(const std::string& type, const std::string& status, const std::string& reason) const {
    const Json condition = Condition(type);
    return condition.value("status", "") == status && condition.value("reason", "") == reason;
  }
  bool Runs(Mode mode) const {
    const Json status = Status();
    return status.value("observedRevision", 0) == spec_.revision &&
           status.value("activeMode", "") == kube::ToString(mode);
  }

  static Options AgentOptions() {
    Options options;
    options.node_name = kNode;
    options.agent_bind_address = "127.0.0.1:10352";
    options.livez_bind_address = "127.0.0.1:10353";
    options.forwarder_launcher = kLauncher;
    options.config_sync_period = 2s;
    return options;
  }

  void StartAgent(const std::filesystem::path& modules_root = "") {
    Options options = AgentOptions();
    options.modules_root = modules_root;
    agent_ = std::make_unique<Agent>(options, api_->ClientConfig(), std::nullopt);
    thread_ = std::jthread([this](std::stop_token stop) {
      try {
        agent_->Run(stop);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "the agent ended: " << error.what();
      }
    });
  }
  void StopAgent() {
    if (thread_.joinable()) {
      thread_.request_stop();
      thread_.join();
    }
    agent_.reset();
  }

  std::optional<Backend> backend_;
  std::unique_ptr<testing::SmallApiServer> api_;
  kube::NodeProxySpec spec_;
  int generation_ = 0;
  std::optional<testing::ForwarderLauncher> launcher_;
  std::unique_ptr<Agent> agent_;
  std::jthread thread_;
};

// Services and endpoints change, metrics and health are read, watches end, the server goes and
// comes, the agent is ended and started: all while it moves from mode to mode and back.
TEST_F(AgentTest, MovesFromModeToModeWhileEverythingElseHappens) {
  Ask(Settings(Mode::kNftables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));

  std::atomic<size_t> scrapes = 0;
  std::jthread changer([&](const std::stop_token& stop) {
    for (int i = 0; !stop.stop_requested(); ++i) {
      const std::string name = "busy-" + std::to_string(i % 20);
      PutService(name, 20 + i % 20);
      if (i % 3 == 0) PutSlice(name, "IPv4", {});
      if (i % 5 == 0) api_->Remove("services", "default", name);
      if (i % 50 == 0) PutNode({"10.244." + std::to_string(i % 200) + ".0/24"});
      std::this_thread::sleep_for(5ms);
    }
  });
  std::vector<std::jthread> readers;
  readers.reserve(2);
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        if (IsOk(HttpGet(10352, "/metrics"))) ++scrapes;
        HttpGet(10352, "/readyz");
        HttpGet(10353, "/livez");
        HttpGet(10256, "/healthz");
        std::this_thread::sleep_for(10ms);
      }
    });
  }
  for (const Mode mode :
       {Mode::kIptables, Mode::kUserspace, Mode::kNftables, Mode::kUserspace, Mode::kIptables}) {
    Ask(Settings(mode));
    api_->CutWatches();
    EXPECT_TRUE(Await([&] { return Runs(mode); })) << kube::ToString(mode) << Status().dump(1);
    EXPECT_TRUE(Connects("10.96.0.10", 80)) << kube::ToString(mode);
  }
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);

  api_->GoAway();
  EXPECT_TRUE(Connects("10.96.0.10", 80)) << "what is in the kernel serves";
  EXPECT_TRUE(IsOk(HttpGet(10353, "/livez")));
  api_->ComeBack();
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));

  StopAgent();
  EXPECT_TRUE(Connects("10.96.0.10", 80)) << "and so it does without an agent";
  Ask(Settings(Mode::kNftables));
  StartAgent();
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_GT(scrapes, 0U);

  changer = {};
  readers.clear();
  Ask(Settings(Mode::kNftables), /*removed=*/true);
  EXPECT_TRUE(Await([&] {
    return Is("Ready", "False", "Removed") && Status().value("activeMode", "-").empty();
  })) << Status().dump(1);
  EXPECT_THAT(testing::RunTool({"nft", "list", "ruleset"}), Not(HasSubstr("pointsman")));
}

// 429 for one list, for as long as it likes: the agent waits, and nobody restarts it for that.
TEST_F(AgentTest, WaitsForListsThatTheServerRefuses) {
  api_->AnswerLists("endpointslices", 429);
  Ask(Settings(Mode::kNftables));
  StartAgent();
  EXPECT_TRUE(Await([&] { return api_->lists("endpointslices") >= 3; }));
  EXPECT_THAT(Condition("RulesSynced").value("message", ""),
              HasSubstr("waiting for the API server"));
  EXPECT_TRUE(IsOk(HttpGet(10352, "/readyz")));
  EXPECT_TRUE(IsOk(HttpGet(10353, "/livez")));
  EXPECT_FALSE(Connects("10.96.0.10", 80));
  api_->AnswerLists("endpointslices", 0);
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));
}

TEST_F(AgentTest, TheServerMayComeLaterThanTheAgent) {
  Ask(Settings(Mode::kNftables));
  api_->GoAway();
  StartAgent();
  EXPECT_TRUE(Await([&] { return IsOk(HttpGet(10353, "/livez")); }));
  api_->ComeBack();
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
}

// kubernetes#111321, #118458.
TEST_F(AgentTest, NodeCidrFollowsTheNode) {
  PutNode({});
  kube::ProxySettings settings = Settings(Mode::kNftables);
  settings.cluster_cidrs.clear();
  settings.detect_local_mode = kube::DetectLocalMode::kNodeCidr;
  Ask(settings);
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << "Services are served meanwhile";
  EXPECT_TRUE(Is("Degraded", "True", "NodeIncomplete")) << Status().dump(1);
  EXPECT_THAT(Condition("Degraded").value("message", ""), HasSubstr("spec.podCIDRs"));
  EXPECT_TRUE(Connects("10.96.0.10", 80));

  const auto rules_have = [](const std::string& cidr) {
    return testing::RunTool({"nft", "list", "table", "ip", "pointsman"}).find(cidr) !=
           std::string::npos;
  };
  PutNode({"10.244.3.0/24"});
  EXPECT_TRUE(Await([&] { return rules_have("10.244.3.0/24"); }));
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
  PutNode({"10.244.4.0/24"});
  EXPECT_TRUE(Await([&] { return rules_have("10.244.4.0/24"); }));
  EXPECT_TRUE(Await([&] { return !rules_have("10.244.3.0/24"); }));
  // A Node that is made anew, before it has its CIDR again.
  api_->Remove("nodes", "", kNode);
  PutNode({});
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));
  EXPECT_TRUE(rules_have("10.244.4.0/24"));
}

TEST_F(AgentTest, MasqueradeAllReachesTheRulesAndLeavesThem) {
  kube::ProxySettings settings = Settings(Mode::kNftables);
  Ask(settings);
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  // Where a cluster IP's connections are masqueraded by their source (nft::ClassChainName).
  const auto by_source = [] {
    return testing::RunTool({"nft", "list", "table", "ip", "pointsman"}).find("chain class-int-") !=
           std::string::npos;
  };
  EXPECT_TRUE(by_source());
  settings.nftables.masquerade_all = true;
  Ask(settings);
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables) && !by_source(); }));
  settings.nftables.masquerade_all = false;
  Ask(settings);
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables) && by_source(); }));
}

// What this program cannot read is told where people look for it, and the rest goes on.
TEST_F(AgentTest, WhatCannotBeReadIsNotServedAsSpecified) {
  Ask(Settings(Mode::kNftables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  ASSERT_TRUE(Await([&] { return Is("ServicesAccepted", "True", "AllAccepted"); }))
      << Status().dump(1);
  const auto told = [&](const std::string& text) {
    return Condition("ServicesAccepted").value("message", "").find(text) != std::string::npos;
  };
  // One that was served, and one that never was.
  Json web = api_->Get("services", "default", "web");
  web["kind"] = "Other";
  api_->Put("services", web);
  web["metadata"]["name"] = "strange";
  api_->Put("services", web);
  Json slice = api_->Get("endpointslices", "default", "kubernetes-IPv4");
  slice["kind"] = "Other";
  api_->Put("endpointslices", slice);
  PutService("later", 11);
  EXPECT_TRUE(Await([&] {
    return told("default/web: it cannot be read and is served as it was before") &&
           told("default/strange: it cannot be read and is not served") &&
           told("EndpointSlice default/kubernetes-IPv4: it cannot be read");
  })) << Status().dump(1);
  EXPECT_TRUE(Is("ServicesAccepted", "False", "NotServedAsSpecified")) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));
  EXPECT_TRUE(Connects("10.96.0.10", 80));

  PutService("web", 10);
  PutService("kubernetes", 1);
  api_->Remove("services", "default", "strange");
  EXPECT_TRUE(Await([&] { return Is("ServicesAccepted", "True", "AllAccepted"); }))
      << Status().dump(1);
}

class ChangeImpactTest : public AgentTest {
 protected:
  Json Impact() const { return Status().value("impact", Json::object()); }
  // Makes changes until it is told what they take.
  bool MeasuresSyncs() {
    return Await([&] {
      PutService("busy", 20 + ++changes_ % 100);
      return Impact().value("revision", 0) == spec_.revision &&
             Impact().contains("syncMillisecondsAfter") &&
             !Impact()["syncMillisecondsAfter"].is_null();
    });
  }
  int changes_ = 0;
};

// userspace mode's connections end with it, and one Service was not served before either.
TEST_F(ChangeImpactTest, WhatAChangeDidIsMeasured) {
  Ask(Settings(Mode::kUserspace));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kUserspace); })) << Status().dump(1);
  EXPECT_EQ(Impact().value("revision", 0), spec_.revision);
  EXPECT_FALSE(Impact().contains("refusedServicesBefore")) << "nothing was served";
  ASSERT_TRUE(MeasuresSyncs()) << Status().dump(1);
  Json strange = api_->Get("services", "default", "web");
  strange["kind"] = "Other";
  strange["metadata"]["name"] = "strange";
  api_->Put("services", strange);
  ASSERT_TRUE(Await([&] { return Is("ServicesAccepted", "False", "NotServedAsSpecified"); }));
  // A connection that stays open.
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(9001);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
  ASSERT_EQ(listen(listener.get(), 4096), 0);
  PutService("held", 12);
  Json slice = api_->Get("endpointslices", "default", "held-IPv4");
  slice["ports"][0]["port"] = 9001;
  api_->Put("endpointslices", slice);
  UniqueFd held;
  UniqueFd taken;
  ASSERT_TRUE(Await([&] {
    held = Connect("10.96.0.12", 80);
    pollfd arrived{.fd = listener.get(), .events = POLLIN, .revents = 0};
    if (held.get() >= 0 && poll(&arrived, 1, 1000) == 1)
      taken.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return taken.get() >= 0;
  }));

  Ask(Settings(Mode::kIptables));
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables); })) << Status().dump(1);
  ASSERT_TRUE(Await([&] { return Status().value("drainingMode", "-").empty(); }));
  EXPECT_TRUE(Await([&] { return Impact().value("cutConnections", 0) == 1; })) << Status().dump(1);
  ASSERT_TRUE(MeasuresSyncs()) << Status().dump(1);
  const Json impact = Impact();
  for (const char* figure : {"syncMillisecondsBefore", "syncMillisecondsAfter"})
    EXPECT_GE(impact.value(figure, 0), 1) << figure;
  EXPECT_EQ(impact.value("refusedServicesBefore", -1), 1);
  EXPECT_EQ(impact.value("refusedServicesAfter", -1), 1);

  // The next agent goes on with it.
  StopAgent();
  StartAgent();
  ASSERT_TRUE(Await([&] { return Is("Ready", "True", "Serving"); })) << Status().dump(1);
  EXPECT_EQ(Impact().value("cutConnections", 0), 1);
  EXPECT_EQ(Impact().value("refusedServicesBefore", -1), 1);
}

// An index of modules (libkmod/libkmod-index.c) in which one alias stands for a module whose name
// is longer than any path: libkmod refuses to look it up.
std::string IndexThatCannotBeUsed(const std::string& alias) {
  const auto number = [](uint32_t value) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8)
      bytes += static_cast<char>(value >> static_cast<unsigned>(shift));
    return bytes;
  };
  constexpr uint32_t kMagic = 0xB007F457;
  constexpr uint32_t kVersion = 0x00020001;
  constexpr uint32_t kRootWithPrefixAndValues = 0xC0000000 + 3 * sizeof(uint32_t);
  return number(kMagic) + number(kVersion) + number(kRootWithPrefixAndValues) + alias + '\0' +
         number(/*values*/ 1) + number(/*priority*/ 0) + std::string(size_t{2} * PATH_MAX, 'x') +
         '\0';
}

// The operator asks about another mode, and what there is of modules is damaged: one index is cut
// off, another is of no use.
TEST_F(AgentTest, AQuestionAboutAModeIsAnsweredWithDamagedModules) {
  utsname names{};
  uname(&names);
  const std::filesystem::path root = "/run/damaged";
  const std::filesystem::path directory = root / "lib/modules" / names.release;
  std::filesystem::create_directories(directory);
  const std::string index = IndexThatCannotBeUsed("ip_vs");
  std::ofstream(directory / "modules.dep.bin") << index.substr(0, 2 * sizeof(uint32_t));
  std::ofstream(directory / "modules.alias.bin") << index;
  Ask(Settings(Mode::kNftables));
  StartAgent(root);
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  spec_.candidate =
      kube::NodeProxyCandidate{.revision = 7, .mode = Mode::kIpvs, .ipvs_scheduler = "rr"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status().contains("candidate"); })) << Status().dump(1);
  EXPECT_EQ(Status()["candidate"]["passed"], false);
  EXPECT_EQ(Status()["candidate"].value("mode", ""), "");
  EXPECT_THAT(Status()["candidate"].value("message", ""), HasSubstr("could not be made"));
  EXPECT_TRUE(Await([&] { return Is("Degraded", "True", "Retrying"); })) << Status().dump(1);
  EXPECT_THAT(Status().dump(), HasSubstr("look up module ip_vs: File name too long"));
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));

  // The question is withdrawn: there is nothing to try again.
  spec_.candidate.reset();
  PutSpec();
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
}

// An index of modules in which libkmod stays: here one that is a pipe, which nobody writes.
TEST_F(AgentTest, AnIndexOfModulesThatIsReadForEverStopsNothing) {
  utsname names{};
  uname(&names);
  const std::filesystem::path root = "/run/endless";
  const std::filesystem::path directory = root / "lib/modules" / names.release;
  std::filesystem::create_directories(directory);
  Ask(Settings(Mode::kNftables));
  StartAgent(root);
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  ASSERT_EQ(mkfifo((directory / "modules.dep.bin").c_str(), 0600), 0);
  spec_.candidate =
      kube::NodeProxyCandidate{.revision = 7, .mode = Mode::kIpvs, .ipvs_scheduler = "rr"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status().contains("candidate"); })) << Status().dump(1);
  EXPECT_EQ(Status()["candidate"]["passed"], false);
  EXPECT_TRUE(Await([&] { return Is("Degraded", "True", "Retrying"); })) << Status().dump(1);
  EXPECT_THAT(Status().dump(),
              AllOf(HasSubstr("look up module"), HasSubstr("pointsman-kmod was killed"),
                    HasSubstr((directory / "modules.dep.bin").string())));
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));
}

// From the chain in the kernel to the NodeProxy's status, and back by the field of its spec.
TEST_F(AgentTest, BesideANeighbourAModeIsBegunOnlyWhereThatIsAccepted) {
  testing::RunTool({"iptables-nft", "-N", "AZURE-NPM"});
  kube::ProxySettings settings = Settings(Mode::kUserspace);
  settings.fallback_modes = {Mode::kNftables};
  Ask(settings);
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Is("PreflightPassed", "False", "NeighbourRefused")) << Status().dump(1);
  EXPECT_TRUE(Is("Degraded", "True", "Fallback"));
  EXPECT_THAT(Condition("PreflightPassed").value("message", ""),
              HasSubstr("chain AZURE-NPM in table filter of iptables-nft, IPv4"));
  const Json neighbours = Status().value("neighbours", Json::array());
  ASSERT_EQ(neighbours.size(), 1U) << Status().dump(1);
  EXPECT_EQ(neighbours[0]["name"], "azure-npm");
  EXPECT_EQ(neighbours[0]["modes"]["userspace"], "Refused");

  // The operator's question has the same answer, and goes by what would be accepted.
  spec_.candidate =
      kube::NodeProxyCandidate{.revision = 7, .mode = Mode::kUserspace, .ipvs_scheduler = "rr"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status().contains("candidate"); }));
  EXPECT_EQ(Status()["candidate"]["passed"], false);
  EXPECT_THAT(Status()["candidate"].value("message", ""), HasSubstr("azure-npm"));
  spec_.candidate->revision = 8;
  spec_.candidate->neighbours.accept = {"azure-npm"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status()["candidate"]["revision"] == 8; }));
  EXPECT_EQ(Status()["candidate"]["passed"], true);
  spec_.candidate.reset();

  settings.neighbours.accept = {"azure-npm"};
  Ask(settings);
  ASSERT_TRUE(Await([&] { return Runs(Mode::kUserspace); })) << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }));
  EXPECT_TRUE(Await([&] { return Status()["neighbours"][0]["modes"]["userspace"] == "Accepted"; }))
      << Status().dump(1);

  // Another that comes while the mode serves takes nothing away.
  testing::RunTool({"iptables-nft", "-N", "WEAVE-NPC"});
  ASSERT_TRUE(Await([&] { return Is("Degraded", "True", "NeighbourRefused"); }))
      << Status().dump(1);
  EXPECT_TRUE(Runs(Mode::kUserspace));
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  for (const char* chain : {"AZURE-NPM", "WEAVE-NPC"})
    testing::RunTool({"iptables-nft", "-X", chain});
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Status()["neighbours"].empty(); })) << Status().dump(1);
}

// A kernel whose ip6tables (or iptables) refuses MARK: rancher/rke2#7438.
// A kube-proxy that the operator configures: it answers on its ports, and has its table.
class StockKubeProxyAgentTest : public AgentTest {
 protected:
  void TearDown() override {
    healthz_.reset();
    metrics_.reset();
    testing::TryTool({"nft", "delete table ip kube-proxy"});
    AgentTest::TearDown();
  }
  void StartKubeProxy(const std::string& mode) {
    healthz_ = std::make_unique<kube::HttpServer>("127.0.0.1:10256", 1);
    healthz_->HandleAtOnce("/healthz", [](const auto&) { return kube::ServedResponse(); });
    healthz_->Start();
    metrics_ = std::make_unique<kube::HttpServer>("127.0.0.1:10249", 1);
    metrics_->HandleAtOnce("/proxyMode",
                           [mode](const auto&) { return kube::ServedResponse{.body = mode}; });
    metrics_->Start();
  }
  static std::string Tables() { return testing::RunTool({"nft", "list", "tables"}); }

  std::unique_ptr<kube::HttpServer> healthz_;
  std::unique_ptr<kube::HttpServer> metrics_;
};

TEST_F(StockKubeProxyAgentTest, IsReadBackAndNothingElseIsInTheKernel) {
  Ask(Settings(Mode::kIptables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables); })) << Status().dump(1);
  // What a kube-proxy in iptables mode left.
  xtables::IptablesTool tool(net::Family::kIPv4);
  testing::KubeProxy("10.96.0.10", 80, "192.0.2.1:9000").Sync(tool);

  spec_.candidate = kube::NodeProxyCandidate{.revision = spec_.revision + 1,
                                             .mode = Mode::kNftables,
                                             .ipvs_scheduler = "rr",
                                             .provider = kube::Provider::kKubeProxy};
  PutSpec();
  ASSERT_TRUE(Await([&] {
    const Json candidate = Status().value("candidate", Json::object());
    return candidate.value("provider", "") == "KubeProxy" && candidate.value("passed", false);
  })) << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Tables().find("pointsman-hold") != std::string::npos; }));
  EXPECT_TRUE(Runs(Mode::kIptables)) << "what runs goes on";

  spec_.provider = kube::Provider::kKubeProxy;
  spec_.candidate.reset();
  Ask(Settings(Mode::kNftables));
  // Its ports are free for kube-proxy.
  ASSERT_TRUE(Await([&] {
    return Condition("RulesSynced").value("message", "").starts_with("kube-proxy: ");
  })) << Status().dump(1);
  EXPECT_THAT(Tables(), HasSubstr("pointsman-hold"));
  EXPECT_TRUE(Is("Degraded", "False", "HandoverWaiting")) << Condition("Degraded");
  // None answers yet, so ours serves until one does what is asked: by rules that are in no mode's
  // way.
  ASSERT_TRUE(Await([&] { return Status().value("preparedRevision", 0) == spec_.revision; }));
  EXPECT_TRUE(Await([&] { return tool.Save("nat").find("POINTSMAN-IPT") == std::string::npos; }));
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  StartKubeProxy("nftables");
  testing::MakeKubeProxyNftables({.cluster_ip = "10.96.0.10",
                                  .port = 80,
                                  .endpoints = {"192.0.2.1:9000"},
                                  .node_ip = "192.0.2.1",
                                  .node_port = 30080,
                                  .cluster_cidr = "10.244.0.0/16"});
  ASSERT_TRUE(Await([&] {
    return Condition("RulesSynced").value("message", "").find("default/kubernetes:http") !=
           std::string::npos;
  })) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "False", "NotSynced")) << Condition("Ready");
  const std::string service = "service-ABCDEFGH-default/kubernetes/tcp/http";
  testing::RunTool({"nft", "add chain ip kube-proxy " + service +
                               "; add chain ip kube-proxy endpoint-ABCDEFGH-default/kubernetes/"
                               "tcp/http__192.0.2.1/9000; add element ip kube-proxy service-ips { "
                               "10.96.0.1 . tcp . 80 : goto " +
                               service + " }"});
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Condition("Ready");
  EXPECT_TRUE(Await([&] {
    return Status().value("/kubeProxy/state"_json_pointer, "") == kube::kKubeProxyRemoved;
  })) << Status().dump(1);
  EXPECT_THAT(tool.Save("nat"),
              AllOf(Not(HasSubstr("KUBE-SERVICES")), Not(HasSubstr("POINTSMAN"))));
  EXPECT_TRUE(Await([&] { return Tables().find("pointsman") == std::string::npos; })) << Tables();
  EXPECT_THAT(Tables(), HasSubstr("table ip kube-proxy\n"));

  std::ostringstream list;
  EXPECT_EQ(RunList(list, ListFormat::kText), 0);
  EXPECT_EQ(list.str(),
            "kube-proxy's nftables mode\n"
            "TCP   10.96.0.1:80                 -\n"
            "  ->  192.0.2.1:9000\n"
            "TCP   10.96.0.10:80                -\n"
            "  ->  192.0.2.1:9000\n");

  // It ends.
  healthz_.reset();
  EXPECT_TRUE(Await([&] { return Is("Degraded", "True", "SyncFailed"); })) << Status().dump(1);
  metrics_.reset();
  testing::RunTool({"nft", "delete table ip kube-proxy"});
  // And the agent serves again.
  spec_.provider = kube::Provider::kNodeAgent;
  Ask(Settings(Mode::kIptables));
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables) && Connects("10.96.0.10", 80); }))
      << Status().dump(1);
}

// kube-proxy is back on a node that ours is to leave: its Pod is Ready, its first sync under way.
TEST_F(StockKubeProxyAgentTest, OursStaysUntilAKubeProxyThatCameBackServes) {
  Ask(Settings(Mode::kIptables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables); })) << Status().dump(1);
  testing::RunTool({"nft", "add table ip kube-proxy"});
  kube::ProxySettings settings = Settings(Mode::kIptables);
  settings.drain_timeout = std::chrono::hours(1);
  Ask(settings, /*removed=*/true);
  ASSERT_TRUE(Await([&] { return Is("Ready", "False", "RemovalWaits"); })) << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  // Started anew it waits, too.
  StopAgent();
  StartAgent();
  PutService("more", 11);
  ASSERT_TRUE(Await([&] {
    return Condition("Ready").value("message", "").find("0 of 3 ports") != std::string::npos;
  })) << Condition("Ready");
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  testing::RunTool({"nft", "delete table ip kube-proxy"});
  ASSERT_TRUE(Await([&] { return Is("Ready", "False", "Removed"); })) << Status().dump(1);
  EXPECT_FALSE(Connects("10.96.0.10", 80));
}

class BrokenFamilyTest : public AgentTest,
                         public ::testing::WithParamInterface<std::tuple<Mode, bool>> {
 protected:
  static void Break(bool v6) {
    for (const char* variant : {"nft", "legacy"}) {
      const std::string tool = std::string(v6 ? "ip6tables-" : "iptables-") + variant + "-restore";
      const std::string path = "/usr/local/sbin/" + tool;
      std::ofstream(path)
          << "#!/bin/sh\n"
             "input=$(cat; echo .)\n"
             "case $input in *'-j MARK'*) echo 'MARK: no such target' >&2; exit 2;; esac\n"
             "printf %s \"${input%.}\" | exec /usr/sbin/"
          << tool << " \"$@\"\n";
      std::filesystem::permissions(path, std::filesystem::perms(0755));
    }
  }
  static void Mend() {
    for (const auto& entry : std::filesystem::directory_iterator("/usr/local/sbin"))
      std::ofstream(entry.path()) << "#!/bin/sh\nexec /usr/sbin/"
                                  << entry.path().filename().string() << " \"$@\"\n";
  }
};

TEST_P(BrokenFamilyTest, LeavesTheOtherServed) {
  const auto mode = std::get<0>(GetParam());
  const bool v6_broken = std::get<1>(GetParam());
  Break(v6_broken);
  PutNode({"10.244.1.0/24"}, /*ipv6=*/true);
  PutService("web", 10, /*ipv6=*/true);
  Ask(Settings(mode));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Is("Degraded", "True", "FamilyNotServed"); })) << Status().dump(1);
  EXPECT_TRUE(Runs(mode)) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);
  const std::string message = Condition("Degraded").value("message", "");
  EXPECT_THAT(message, HasSubstr(v6_broken ? "IPv6" : "IPv4"));
  EXPECT_THAT(message, HasSubstr("MARK: no such target"));
  EXPECT_TRUE(Connects(v6_broken ? "10.96.0.10" : "fd00:96::10", 80));
  EXPECT_FALSE(Connects(v6_broken ? "fd00:96::10" : "10.96.0.10", 80));
  // Changes of the family that is well are written as ever.
  PutService("later", 11, /*ipv6=*/true);
  EXPECT_TRUE(Await([&] { return Connects(v6_broken ? "10.96.0.11" : "fd00:96::11", 80); }));

  Mend();
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  EXPECT_TRUE(Connects("fd00:96::10", 80));
}

INSTANTIATE_TEST_SUITE_P(Modes, BrokenFamilyTest,
                         ::testing::Combine(::testing::Values(Mode::kIptables, Mode::kUserspace),
                                            ::testing::Bool()),
                         [](const auto& parameters) {
                           return std::string(kube::ToString(std::get<0>(parameters.param))) +
                                  (std::get<1>(parameters.param) ? "WithoutIPv6" : "WithoutIPv4");
                         });

}  // namespace
}  // namespace pointsman::agent
