#include "bench/agent/measured_node.h"

#include <netinet/in.h>
#include <sstream>
#include <sys/socket.h>

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"

namespace pointsman::bench {
namespace {

uint16_t PortOf(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    ThrowErrno("getsockname");
  return ntohs(address.sin_port);
}

bool Readable(int fd, std::chrono::milliseconds timeout) {
  pollfd entry{fd, POLLIN, 0};
  const int ready = poll(&entry, 1, static_cast<int>(timeout.count()));
  if (ready < 0 && errno != EINTR) ThrowErrno("poll");
  return ready > 0;
}

std::string Tail(const std::string& text) {
  constexpr size_t kShown = 2000;
  return text.size() <= kShown ? text : "…" + text.substr(text.size() - kShown);
}

}  // namespace

MeasuredNode::MeasuredNode(e2e::World& world, const std::string& node, const std::string& reader,
                           bool one_cpu, const std::string& iptables,
                           const std::filesystem::path& log)
    : node_(world.cluster().node(node)), log_(log) {
  e2e::Cluster& cluster = world.cluster();
  UniqueFd listener;
  e2e::InNetworkNamespace(cluster.sandbox().net_ns(), [&] {
    listener =
        e2e::Listen(e2e::Protocol::kTcp, e2e::MakeEndpoint(e2e::Cluster::kControlPlaneAddress, 0));
  });
  std::vector<std::string> argv = {cluster.Program("pointsman-bench-node"),
                                   "--address",
                                   e2e::Cluster::kControlPlaneAddress,
                                   "--port",
                                   std::to_string(PortOf(listener.get())),
                                   "--reader",
                                   reader,
                                   "--log",
                                   log_};
  if (one_cpu) argv.emplace_back("--one-cpu");
  argv.insert(argv.end(), {"--", cluster.Program("pointsman-node-agent"), "--kubeconfig",
                           cluster.dir() / "agent.kubeconfig", "--node-name", node});
  e2e::ExecOptions options;
  if (!iptables.empty()) options.env["POINTSMAN_IPTABLES"] = iptables;
  pid_ = node_.client().Start(argv, log_, options);
  if (!Readable(listener.get(), std::chrono::seconds(20))) Fail("it does not report");
  connection_ = UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection_) ThrowErrno("accept");
}

MeasuredNode::~MeasuredNode() {
  connection_.Reset();
  try {
    // It ends the agent and then itself.
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    while (node_.client().Status(pid_).running && Clock::now() < deadline)
      usleep(50'000);
  } catch (const std::exception& error) {
    spdlog::error("ending the agent on {}: {}", node_.name(), error.what());
  }
}

void MeasuredNode::Fail(const std::string& why) const {
  throw std::runtime_error(node_.name() + ": " + why + "; its log ends:\n" +
                           Tail(node_.client().Get(log_)));
}

std::string MeasuredNode::ReadLine(std::chrono::seconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  size_t end = 0;
  while ((end = received_.find('\n')) == std::string::npos) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) Fail("no answer for " + std::to_string(timeout.count()) + " s");
    if (!Readable(connection_.get(), left)) continue;
    char buffer[1024];
    const ssize_t size = recv(connection_.get(), buffer, sizeof buffer, 0);
    if (size <= 0) Fail("pointsman-bench-node ended");
    received_.append(buffer, static_cast<size_t>(size));
  }
  std::string line = received_.substr(0, end);
  received_.erase(0, end + 1);
  return line;
}

void MeasuredNode::Send(const std::string& line) const {
  const std::string text = line + "\n";
  if (send(connection_.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(text.size()))
    Fail("pointsman-bench-node ended");
}

std::chrono::nanoseconds MeasuredNode::AwaitSynced(std::chrono::seconds timeout) {
  std::istringstream words(ReadLine(timeout));
  std::string verb;
  int64_t took = 0;
  words >> verb >> took;
  if (verb != "synced") Fail("said '" + words.str() + "'");
  return std::chrono::nanoseconds(took);
}

Usage MeasuredNode::ReadUsage() {
  Send("usage");
  std::istringstream words(ReadLine(std::chrono::seconds(60)));
  std::string verb;
  double resident = 0;
  double peak = 0;
  double cpu = 0;
  words >> verb >> resident >> peak >> cpu;
  if (verb != "usage") Fail("said '" + words.str() + "'");
  return {resident / 1024, peak / 1024, cpu / 1000};
}

void MeasuredNode::Arm(const ReadinessChange& change) {
  Send(fmt::format("await {} {} {} {} {}", change.service.ToString(), ApiLoad::kServicePort,
                   change.endpoint.ToString(), ApiLoad::kEndpointPort,
                   change.ready ? "present" : "gone"));
  if (const std::string line = ReadLine(std::chrono::seconds(60)); line != "armed")
    Fail("said '" + line + "'");
}

MeasuredNode::Clock::time_point MeasuredNode::AwaitDone() {
  const std::string line = ReadLine(std::chrono::seconds(180));
  const Clock::time_point now = Clock::now();
  if (line != "done") Fail("said '" + line + "'");
  return now;
}

}  // namespace pointsman::bench
