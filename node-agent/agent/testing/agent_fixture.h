// For tests of the agent as a whole: in this process, so that sanitizers see the threads that
// agent.cpp wires, on this machine's kernel in a network namespace of its own, with an API server
// that misbehaves.
#pragma once

#include <arpa/inet.h>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/testing/eventually.h"
#include "node-agent/agent/agent.h"
#include "node-agent/agent/cleanup.h"
#include "node-agent/agent/testing/small_api_server.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/net_namespace.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/userspace/testing/forwarder_launcher.h"
#include "node-agent/userspace/testing/forwarder_program.h"

namespace pointsman::agent::testing {

inline constexpr char kNode[] = "node-1";
inline constexpr char kLauncher[] = "/run/pointsman/launcher.sock";
// Sanitizers make everything many times slower.
inline constexpr std::chrono::seconds kPatience{150};

inline bool Await(const std::function<bool()>& condition) {
  return Eventually(condition, kPatience);
}

// A TCP connection to `address`, if it is made within a second.
inline UniqueFd Connect(const std::string& address, uint16_t port) {
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

inline bool Connects(const std::string& address, uint16_t port) {
  return Connect(address, port).get() >= 0;
}

// The answer's text, with its head; "" when there is none.
inline std::string HttpGet(uint16_t port, const std::string& path) {
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

inline bool IsOk(const std::string& answer) {
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
    EnterFreshMounts({"/run", "/usr/local/sbin"});
    std::filesystem::create_directories("/run/pointsman");
    IpTool(
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
    launcher_.emplace(ForwarderProgram(), kLauncher);
    api_ = std::make_unique<SmallApiServer>();
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
    EXPECT_THAT(RunTool({"nft", "list", "ruleset"}),
                ::testing::Not(::testing::HasSubstr("pointsman")));
    api_.reset();
    launcher_.reset();
    backend_.reset();
  }

  void PutNode(const std::vector<std::string>& pod_cidrs, bool ipv6 = false) {
    kube::Json addresses = {{{"type", "InternalIP"}, {"address", "192.0.2.1"}}};
    if (ipv6) addresses.push_back({{"type", "InternalIP"}, {"address", "2001:db8::1"}});
    api_->Put("nodes", {{"metadata", {{"name", kNode}}},
                        {"spec", {{"podCIDRs", pod_cidrs}}},
                        {"status", {{"addresses", addresses}}}});
  }

  // 10.96.0.<number>:80, and with `ipv6` [fd00:96::<number>]:80, lead to the backend.
  void PutService(const std::string& name, int number, bool ipv6 = false) {
    kube::Json ips = {"10.96.0." + std::to_string(number)};
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
    kube::Json endpoints = kube::Json::array();
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

  static kube::ProxySettings Settings(kube::Mode mode) {
    kube::ProxySettings settings;
    settings.mode = mode;
    settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
    settings.iptables.sync_period = settings.nftables.sync_period = std::chrono::seconds(1);
    settings.drain_timeout = std::chrono::seconds(1);
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
    kube::Json proxy = api_->Get("nodeproxies", "", kNode);
    if (proxy.is_null()) proxy = {{"metadata", {{"name", kNode}}}};
    proxy["metadata"]["generation"] = ++generation_;
    proxy["spec"] = ToJson(spec_);
    api_->Put("nodeproxies", proxy);
  }

  kube::Json Status() const {
    const kube::Json proxy = api_->Get("nodeproxies", "", kNode);
    return proxy.value("status", kube::Json::object());
  }
  kube::Json Condition(const std::string& type) const {
    for (const kube::Json& condition : Status().value("conditions", kube::Json::array())) {
      if (condition.at("type") == type) return condition;
    }
    return kube::Json::object();
  }
  bool Is(const std::string& type, const std::string& status, const std::string& reason) const {
    const kube::Json condition = Condition(type);
    return condition.value("status", "") == status && condition.value("reason", "") == reason;
  }
  bool Runs(kube::Mode mode) const {
    const kube::Json status = Status();
    return status.value("observedRevision", 0) == spec_.revision &&
           status.value("activeMode", "") == kube::ToString(mode);
  }

  static Options AgentOptions() {
    Options options;
    options.node_name = kNode;
    options.agent_bind_address = "127.0.0.1:10352";
    options.livez_bind_address = "127.0.0.1:10353";
    options.forwarder_launcher = kLauncher;
    options.config_sync_period = std::chrono::seconds(2);
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
  std::unique_ptr<SmallApiServer> api_;
  kube::NodeProxySpec spec_;
  int generation_ = 0;
  std::optional<ForwarderLauncher> launcher_;
  std::unique_ptr<Agent> agent_;
  std::jthread thread_;
};

}  // namespace pointsman::agent::testing
