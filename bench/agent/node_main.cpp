// pointsman-bench-node: runs on the measured node. It starts the agent, says when it is synced,
// what it costs, and when a change is in the kernel. It talks to agent_bench over one TCP
// connection, a line a message, and answers each request before it reads the next:
//   → synced NANOSECONDS          once, when the agent says that its first sync is complete; since
//                                 its start
//   ← usage                       → usage RSS_KB PEAK_KB CPU_MS
//   ← await IP PORT IP PORT present|gone   Service, endpoint
//                                 → armed, then → done
// It ends, and the agent with it, when the connection is closed.
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sstream>
#include <sys/socket.h>
#include <sys/wait.h>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "bench/agent/kernel_reader.h"
#include "node-agent/testing/process_usage.h"

namespace pointsman::bench {
namespace {

using agent::testing::ResidentKilobytes;
using Clock = std::chrono::steady_clock;

// Of /proc: "" when the process is gone, be it while its file is read.
std::string ReadFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return "";
  std::string text(16 << 10, '\0');
  const ssize_t size = read(fd.get(), text.data(), text.size());
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

// The value of a line "Name:   value" of /proc/PID/status; "" when the process is gone.
std::string StatusField(pid_t pid, const std::string& name) {
  std::istringstream lines(ReadFile("/proc/" + std::to_string(pid) + "/status"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + ":")) continue;
    const size_t begin = line.find_first_not_of(" \t", name.size() + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

pid_t StartAgent(const std::vector<std::string>& argv, int output) {
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const std::string& argument : argv)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) ThrowErrno("fork");
  if (pid == 0) {
    dup2(output, 1);
    dup2(output, 2);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  return pid;
}

class Runner {
 public:
  Runner(int connection, std::unique_ptr<KernelReader> reader, bool yields, std::ofstream log)
      : connection_(connection),
        reader_(std::move(reader)),
        yields_(yields),
        log_(std::move(log)) {}

  void Run(const std::vector<std::string>& argv) {
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC) != 0) ThrowErrno("pipe");
    started_ = Clock::now();
    agent_ = StartAgent(argv, pipe_ends[1]);
    close(pipe_ends[1]);
    try {
      Serve(pipe_ends[0]);
    } catch (...) {
      End();
      throw;
    }
    End();
  }

 private:
  void Serve(int output) {
    pollfd fds[2] = {{connection_, POLLIN, 0}, {output, POLLIN, 0}};
    while (true) {
      // Short-lived children are caught only by looking often. Afterwards that would cost a node
      // with one CPU more than the agent does.
      if (poll(fds, 2, synced_ ? -1 : 5) < 0 && errno != EINTR) ThrowErrno("poll");
      if (!synced_) Sample();
      char buffer[4096];
      if (fds[1].revents != 0) {
        const ssize_t size = read(output, buffer, sizeof buffer);
        if (size <= 0) throw std::runtime_error("the agent ended; see its log");
        Output({buffer, static_cast<size_t>(size)});
      }
      if (fds[0].revents != 0) {
        const ssize_t size = read(connection_, buffer, sizeof buffer);
        if (size <= 0) return;
        requests_.append(buffer, static_cast<size_t>(size));
        for (size_t end = 0; (end = requests_.find('\n')) != std::string::npos;) {
          const std::string line = requests_.substr(0, end);
          requests_.erase(0, end + 1);
          Request(line);
        }
      }
    }
  }

  void End() const {
    kill(agent_, SIGTERM);
    while (waitpid(agent_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  void Output(std::string_view text) {
    log_ << text << std::flush;
    if (synced_) return;
    output_ += text;
    // "ipvs serves 1000 Services with 10000 endpoints": written and read back.
    const size_t at = output_.find(" serves ");
    if (at == std::string::npos || output_.find(" Services with ", at) == std::string::npos) return;
    synced_ = true;
    Say("synced " + std::to_string(std::chrono::nanoseconds(Clock::now() - started_).count()));
    output_.clear();
  }

  void Sample() {
    size_t children = 0;
    const std::string list = ReadFile("/proc/" + std::to_string(agent_) + "/task/" +
                                      std::to_string(agent_) + "/children");
    std::istringstream pids(list);
    for (pid_t pid = 0; pids >> pid;) {
      // Before exec it is a copy of the agent, whose pages count already.
      if (StatusField(pid, "Name") != StatusField(agent_, "Name"))
        children += ResidentKilobytes(pid);
    }
    peak_ = std::max(peak_, ResidentKilobytes(agent_) + children);
  }

  void Request(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    words >> verb;
    if (verb == "usage") {
      Sample();
      Say("usage " + std::to_string(ResidentKilobytes(agent_)) + " " + std::to_string(peak_) + " " +
          std::to_string(agent::testing::CpuTime(agent_).count()));
    } else if (verb == "await") {
      Await(words);
    } else {
      throw std::runtime_error("request not understood: " + line);
    }
  }

  void Await(std::istringstream& words) {
    std::string service;
    std::string endpoint;
    std::string state;
    EndpointChange change;
    words >> service >> change.service_port >> endpoint >> change.endpoint_port >> state;
    change.service = net::IpAddress::Parse(service).value();
    change.endpoint = net::IpAddress::Parse(endpoint).value();
    change.present = state == "present";
    reader_->Arm(change);
    if (reader_->Done()) throw std::runtime_error("the kernel has it already: " + words.str());
    Say("armed");
    const Clock::time_point deadline = Clock::now() + std::chrono::seconds(120);
    Yield(true);
    while (!reader_->Done()) {
      if (Clock::now() > deadline) throw std::runtime_error("not in the kernel: " + words.str());
      if (!yields_) usleep(200);
    }
    Say("done");
    Yield(false);
  }

  // On a kernel with one CPU this process must not take it from the agent: SCHED_IDLE runs only
  // when nothing else wants to.
  void Yield(bool on) const {
    if (!yields_) return;
    const sched_param none{};
    if (sched_setscheduler(0, on ? SCHED_IDLE : SCHED_OTHER, &none) != 0) ThrowErrno("SCHED_IDLE");
  }

  void Say(std::string line) const {
    line += '\n';
    if (send(connection_, line.data(), line.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(line.size()))
      ThrowErrno("send");
  }

  int connection_;
  std::unique_ptr<KernelReader> reader_;
  bool yields_;
  std::ofstream log_;
  pid_t agent_ = -1;
  Clock::time_point started_;
  std::string output_;
  std::string requests_;
  bool synced_ = false;
  size_t peak_ = 0;
};

int Connect(const std::string& address, uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) ThrowErrno("socket");
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  if (inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1)
    throw std::invalid_argument("not an IPv4 address: " + address);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
    ThrowErrno("connect to " + address);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace
}  // namespace pointsman::bench

int main(int argc, char** argv) {
  CLI::App app{"The part of agent_bench that runs on the node"};
  std::string address;
  uint16_t port = 0;
  std::string reader;
  std::string log;
  bool one_cpu = false;
  std::vector<std::string> agent;
  app.add_option("--address", address)->required();
  app.add_option("--port", port)->required();
  app.add_option("--reader", reader)->required();
  app.add_option("--log", log)->required();
  app.add_flag("--one-cpu", one_cpu);
  app.add_option("agent", agent, "the agent and its arguments, after --")->required();
  CLI11_PARSE(app, argc, argv);
  try {
    using namespace pointsman::bench;  // NOLINT(google-build-using-namespace)
    Runner runner(Connect(address, port), MakeKernelReader(reader), one_cpu,
                  std::ofstream(log, std::ios::app));
    runner.Run(agent);
  } catch (const std::exception& error) {
    std::cerr << "pointsman-bench-node: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
