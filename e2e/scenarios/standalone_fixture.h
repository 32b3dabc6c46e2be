// For the tests of the agent in the place of kube-proxy: one node, on a cluster that knows nothing
// of Pointsman.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <signal.h>

#include "e2e/scenarios/scenario_fixture.h"

namespace pointsman::e2e {

struct HttpAnswer {
  int status = 0;  // 0: no answer
  std::string head;
  std::string body;
};

class StandaloneFixture : public ScenarioTest {
 protected:
  static constexpr char kConfigFile[] = "/run/kube-proxy/config.conf";
  static constexpr uint16_t kTargetPort = 8080;

  void StartNode(const std::string& kind, const std::string& name = TestName()) {
    WorldOptions options;
    options.pointsman = false;
    START_OR_RETURN(StartWorld({kind}, std::move(options), name));
    // Who kube-proxy is where the cluster gives it a client certificate: just system:node-proxier.
    world_->MintKubeconfig("system:kube-proxy", {}, Kubeconfig());
    Node().Check({"mkdir", "-p", "/run/kube-proxy"});
  }
  const e2e::Node& Node() { return world_->cluster().node("node-1"); }
  std::filesystem::path Kubeconfig() const { return dir_ / "kube-proxy.kubeconfig"; }

  // web-0 at 10.96.1.1 and so on, with these pods of the node behind each.
  static std::vector<World::ServiceSpec> Services(int count, const std::vector<std::string>& pods) {
    std::vector<World::ServiceSpec> services;
    for (int i = 0; i < count; ++i) {
      World::ServiceSpec service;
      service.name = fmt::format("web-{}", i);
      service.cluster_ip = fmt::format("10.96.1.{}", 1 + i);
      service.target_port = kTargetPort;
      service.endpoints = pods;
      for (const std::string& pod : pods)
        service.endpoint_nodes[pod] = "node-1";
      services.push_back(std::move(service));
    }
    return services;
  }
  // Whether a connection to it is served by a pod.
  bool Connects(const std::string& target, const std::string& netns = "") {
    return Node()
        .Exec(
            {world_->cluster().Program("pointsman-traffic"), "connect", target, "--timeout", "2s"},
            {.netns = netns})
        .ok();
  }

  std::string Agent() { return world_->cluster().Program("pointsman-node-agent"); }
  void WriteConfiguration(const std::string& text) { Node().client().Put(kConfigFile, text); }
  pid_t StartAgent(std::vector<std::string> args = {"--config", kConfigFile}) {
    args.insert(args.begin(), Agent());
    log_ = dir_ / fmt::format("agent-{}.log", ++agents_);
    return Node().client().Start(args, log_);
  }
  // Of the newest agent.
  std::string Log() const {
    std::ifstream file(log_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  NodeProcessStatus AwaitEnd(pid_t pid) {
    using std::chrono_literals::operator""s;
    world_->Await(
        "the agent ends", [&] { return !Node().client().Status(pid).running; }, 30s,
        [&] { return Log(); });
    return Node().client().Status(pid);
  }
  NodeProcessStatus Stop(pid_t pid, int signal = SIGTERM) {
    Node().client().Signal(pid, signal);
    return AwaitEnd(pid);
  }

  HttpAnswer Get(uint16_t port, const std::string& path, const std::string& address = "127.0.0.1") {
    const ExecResult result =
        Node().Exec({"bash", "-c",
                     fmt::format("exec 3<>/dev/tcp/{}/{} && printf 'GET {} HTTP/1.1\\r\\nHost: "
                                 "x\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3",
                                 address, port, path)});
    HttpAnswer answer;
    const size_t end = result.out.find("\r\n\r\n");
    if (!result.ok() || end == std::string::npos) return answer;
    answer.head = result.out.substr(0, end);
    answer.body = result.out.substr(end + 4);
    answer.status = std::stoi(answer.head.substr(answer.head.find(' ')));
    return answer;
  }
  void AwaitAnswer(uint16_t port, const std::string& path, int status,
                   const std::string& body = "") {
    using std::chrono_literals::operator""s;
    world_->Await(
        fmt::format("{}{} answers {} {}", port, path, status, body),
        [&] {
          const HttpAnswer answer = Get(port, path);
          return answer.status == status && (body.empty() || answer.body == body);
        },
        60s, [&] { return Log(); });
  }
  void AwaitMode(const std::string& mode) { AwaitAnswer(10249, "/proxyMode", 200, mode); }

 private:
  std::filesystem::path log_;
  int agents_ = 0;
};

}  // namespace pointsman::e2e
