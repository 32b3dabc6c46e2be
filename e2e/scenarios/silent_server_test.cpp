// An API server that takes requests and does not answer them holds up neither program's end.
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <linux/rtnetlink.h>
#include <mutex>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/process/child_wait.h"
#include "kube/testing/eventually.h"
#include "node-agent/netlink/link.h"
#include "node-agent/testing/fresh_netns.h"

namespace pointsman {
namespace {

using namespace std::chrono_literals;

// Answers what `answered` is part of, and nothing else.
class SilentServer {
 public:
  explicit SilentServer(std::string answered)
      : answered_(std::move(answered)), fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(fd_.get(), generic, size) != 0 || listen(fd_.get(), 100) != 0 ||
        getsockname(fd_.get(), generic, &size) != 0) {
      throw std::system_error(errno, std::generic_category(), "listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this](const std::stop_token& stop) { Serve(stop); });
  }

  int port() const { return port_; }
  // Requests that it left without an answer.
  int unanswered() const { return unanswered_; }

 private:
  void Serve(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::vector<pollfd> items{{fd_.get(), POLLIN, 0}};
      for (const UniqueFd& client : clients_)
        items.push_back({client.get(), POLLIN, 0});
      if (poll(items.data(), items.size(), 50) <= 0) continue;
      for (size_t i = 1; i < items.size(); ++i) {
        if (items[i].revents != 0) Read(items[i].fd);
      }
      if (items[0].revents != 0)
        clients_.emplace_back(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
  }
  void Read(int client) {
    std::array<char, 8192> buffer{};
    const ssize_t count = recv(client, buffer.data(), buffer.size(), 0);
    if (count <= 0) {
      std::erase_if(clients_, [&](const UniqueFd& each) { return each.get() == client; });
      return;
    }
    const std::string_view request(buffer.data(), static_cast<size_t>(count));
    if (answered_.empty() ||
        request.substr(0, request.find('\r')).find(answered_) == std::string::npos) {
      ++unanswered_;
      return;
    }
    const std::string body =
        R"({"kind":"APIResourceList","apiVersion":"v1","groupVersion":"discovery.k8s.io/v1",)"
        R"("resources":[{"name":"endpointslices","namespaced":true,"kind":"EndpointSlice"}]})";
    const std::string answer = fmt::format(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
        body.size(), body);
    send(client, answer.data(), answer.size(), MSG_NOSIGNAL);
  }

  const std::string answered_;
  const UniqueFd fd_;
  int port_ = 0;
  std::atomic<int> unanswered_ = 0;
  std::vector<UniqueFd> clients_;
  std::jthread thread_;
};

struct Case {
  const char* name;
  std::vector<std::string> command;
  std::string answered;
  int requests;  // that are waited for before it is told to end
};

class SilentServerTest : public ::testing::TestWithParam<Case> {};

TEST_P(SilentServerTest, DoesNotHoldUpTheEnd) {
  if (!agent::EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
  agent::netlink::Socket route(NETLINK_ROUTE);
  agent::netlink::SetLinkUp(route, "lo");
  const SilentServer server(GetParam().answered);
  const std::filesystem::path kubeconfig =
      std::filesystem::temp_directory_path() / fmt::format("pointsman-silent-{}", getpid());
  std::ofstream(kubeconfig) << fmt::format(
      "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: "
      "\"http://127.0.0.1:{}\"}}}}]\ncontexts: [{{name: c, context: {{cluster: c}}}}]\n"
      "current-context: c\n",
      server.port());
  std::vector<std::string> command = GetParam().command;
  command.push_back("--kubeconfig=" + kubeconfig.string());
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (std::string& word : command)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execv(argv[0], argv.data());
    _exit(127);
  }
  EXPECT_TRUE(Eventually([&] { return server.unanswered() >= GetParam().requests; }));
  ASSERT_EQ(kill(pid, SIGTERM), 0);
  const std::optional<int> status = kube::WaitForChild(pid, 8s);
  EXPECT_EQ(status, 0) << "8 s after SIGTERM";
  if (!status) kube::KillChild(pid, /*group=*/false, 5s);
  std::filesystem::remove(kubeconfig);
}

INSTANTIATE_TEST_SUITE_P(
    Programs, SilentServerTest,
    ::testing::Values(Case{.name = "AgentThatHasNoAnswerYet",
                           .command = {POINTSMAN_AGENT, "--node-name=n"},
                           .requests = 1},
                      Case{.name = "AgentThatLists",
                           .command = {POINTSMAN_AGENT, "--node-name=n"},
                           .answered = "/apis/discovery.k8s.io/v1 HTTP",
                           .requests = 4},
                      Case{.name = "OperatorThatWaitsForItsLease",
                           .command = {POINTSMAN_OPERATOR, "--namespace=n", "--leader-elect",
                                       "--metrics-bind-address=0", "--health-probe-bind-address=0"},
                           .requests = 5},
                      Case{.name = "OperatorThatLeads",
                           .command = {POINTSMAN_OPERATOR, "--namespace=n",
                                       "--metrics-bind-address=0", "--health-probe-bind-address=0"},
                           .requests = 5}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace pointsman
