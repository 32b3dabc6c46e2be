#include "e2e/testbed/node/node_client.h"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdexcept>
#include <string_view>
#include <sys/time.h>
#include <system_error>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "e2e/testbed/node/frame.h"
#include "e2e/testbed/process.h"

namespace pointsman::e2e {
namespace {

using nlohmann::json;

json Request(const std::vector<std::string>& argv, const ExecOptions& options) {
  json mounts = json::array();
  for (const auto& [to, from] : options.mounts)
    mounts.push_back({{"from", from}, {"to", to}});
  return {{"argv", argv},
          {"env", options.env},
          {"cwd", options.cwd},
          {"netns", options.netns},
          {"mounts", mounts}};
}

}  // namespace

NodeClient::NodeClient(std::shared_ptr<UniqueFd> net_ns, std::string address, std::string token)
    : net_ns_(std::move(net_ns)), address_(std::move(address)), token_(std::move(token)) {}

UniqueFd NodeClient::Connect(std::chrono::milliseconds timeout) const {
  UniqueFd fd;
  InNetworkNamespace(net_ns_->get(),
                     [&] { fd = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
  if (!fd.valid()) throw std::system_error(errno, std::generic_category(), "socket");
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  timeval limit{timeout.count() / 1000, (timeout.count() % 1000) * 1000};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const Endpoint endpoint = MakeEndpoint(address_, kNodePort);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.size) != 0)
    throw std::system_error(errno, std::generic_category(), "connect to node " + address_);
  return fd;
}

json NodeClient::Call(json request, std::string_view input, std::chrono::milliseconds timeout,
                      const std::function<void(std::string_view, bool)>& on_output) const {
  request["token"] = token_;
  const UniqueFd fd = Connect(timeout);
  WriteFrame(fd.get(), 'R', request.dump());
  // Sent beside the reading below, or a program that echoes its input would block both sides. A
  // failure to send is no error: the program may end without having read all. Joined after the
  // socket was shut down.
  const bool takes_input = request["op"] == "exec" || request["op"] == "put";
  std::thread sender;
  const auto send_input = [&fd, input]() mutable {
    try {
      for (; !input.empty(); input.remove_prefix(std::min(input.size(), kMaxFrame / 2)))
        WriteFrame(fd.get(), 'I', input.substr(0, kMaxFrame / 2));
      WriteFrame(fd.get(), 'E', "");
    } catch (const std::system_error& error) {
      spdlog::debug("input of a command: {}", error.what());
    }
  };
  struct JoinSender {
    std::thread& sender;
    int fd;
    ~JoinSender() {
      if (!sender.joinable()) return;
      shutdown(fd, SHUT_RDWR);
      sender.join();
    }
  } const join{sender, fd.get()};
  if (takes_input && !input.empty()) {
    sender = std::thread(send_input);
  } else if (takes_input) {
    WriteFrame(fd.get(), 'E', "");
  }
  for (;;) {
    const auto frame = ReadFrame(fd.get());
    if (!frame)
      throw std::system_error(ECONNRESET, std::generic_category(), "node " + address_ + " hung up");
    switch (frame->type) {
      case 'O':
      case 'e':
        on_output(frame->payload, frame->type == 'e');
        break;
      case 'X':
        return json::parse(frame->payload);
      case '!':
        throw std::runtime_error("node " + address_ + ": " + frame->payload);
      default:
        throw std::runtime_error("node " + address_ + " sent an unknown frame");
    }
  }
}

std::string NodeClient::Ping(std::chrono::milliseconds timeout) const {
  return Call({{"op", "ping"}}, "", timeout, [](std::string_view, bool) {}).at("boot");
}

ExecResult NodeClient::ExecStreaming(
    const std::vector<std::string>& argv, const ExecOptions& options,
    const std::function<void(std::string_view, bool)>& on_output) const {
  json request = Request(argv, options);
  request["op"] = "exec";
  const json answer = Call(std::move(request), options.input, options.timeout, on_output);
  ExecResult result;
  result.exit = answer.at("exit");
  result.signal = answer.at("signal");
  return result;
}

ExecResult NodeClient::Exec(const std::vector<std::string>& argv,
                            const ExecOptions& options) const {
  std::string out;
  std::string error;
  ExecResult result = ExecStreaming(argv, options, [&](std::string_view data, bool is_error) {
    (is_error ? error : out).append(data);
  });
  result.out = std::move(out);
  result.error = std::move(error);
  return result;
}

std::string NodeClient::Check(const std::vector<std::string>& argv,
                              const ExecOptions& options) const {
  ExecResult result = Exec(argv, options);
  if (!result.ok()) {
    std::string command;
    for (const auto& item : argv)
      command += (command.empty() ? "" : " ") + item;
    throw std::runtime_error("on node " + address_ + ": '" + command + "' failed (exit " +
                             std::to_string(result.exit) + ", signal " +
                             std::to_string(result.signal) + "): " + result.out + result.error);
  }
  return result.out;
}

pid_t NodeClient::Start(const std::vector<std::string>& argv, const std::string& log,
                        const ExecOptions& options) const {
  json request = Request(argv, options);
  request["op"] = "start";
  request["log"] = log;
  return Call(std::move(request), "", options.timeout, [](std::string_view, bool) {}).at("pid");
}

NodeProcessStatus NodeClient::Status(pid_t pid) const {
  const json answer = Call({{"op", "status"}, {"pid", pid}}, "", std::chrono::seconds(10),
                           [](std::string_view, bool) {});
  return {answer.at("running"), answer.at("exit"), answer.at("signal")};
}

void NodeClient::Signal(pid_t pid, int signal) const {
  Call({{"op", "signal"}, {"pid", pid}, {"signal", signal}}, "", std::chrono::seconds(10),
       [](std::string_view, bool) {});
}

void NodeClient::Put(const std::string& path, std::string_view content, unsigned mode,
                     unsigned owner) const {
  Call({{"op", "put"}, {"path", path}, {"mode", mode}, {"owner", owner}}, content,
       std::chrono::seconds(30), [](std::string_view, bool) {});
}

std::string NodeClient::Get(const std::string& path) const {
  std::string content;
  Call({{"op", "get"}, {"path", path}}, "", std::chrono::seconds(30),
       [&](std::string_view data, bool) { content.append(data); });
  return content;
}

}  // namespace pointsman::e2e
