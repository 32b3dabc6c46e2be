// pointsman-testbed: a test cluster on this machine, to play with.
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/testbed/cluster.h"
#include "e2e/testbed/kubelet/kubelet.h"

namespace {

namespace fs = std::filesystem;
using namespace pointsman::e2e;

int Up(ClusterOptions options, const std::string& nodes, bool control_plane, int ready_fd) {
  std::istringstream list(nodes);
  for (std::string item; std::getline(list, item, ',');)
    options.nodes.push_back(ParseNode(item));
  try {
    const AttachedCluster running(options.dir);
    std::fprintf(stderr, "a cluster is running in %s already (process %d)\n", options.dir.c_str(),
                 running.owner());
    return 1;
  } catch (const std::runtime_error&) {
    // None runs there: that is what we want.
  }
  // Blocked before threads are started: only this one takes them.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    sigaddset(&signals, signal);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): before the first thread.
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  Cluster cluster(std::move(options));
  cluster.Start();
  std::unique_ptr<Kubelet> kubelet;
  if (control_plane) {
    cluster.StartControlPlane();
    kubelet = std::make_unique<Kubelet>(cluster);
    std::printf("export KUBECONFIG=%s\n", cluster.Kubeconfig().c_str());
  }
  for (const auto& node : cluster.nodes())
    std::printf("%s %s %s\n", node.name().c_str(), node.address().c_str(), node.pod_cidr().c_str());
  std::fflush(stdout);
  if (ready_fd >= 0) {
    (void)!write(ready_fd, "1", 1);
    close(ready_fd);
  }
  int signal = 0;
  // SIGHUP asks for nodes to be killed or booted, as named in the request file (kill-node,
  // boot-node).
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) {
    const fs::path request = cluster.dir() / "request";
    std::ifstream file(request);
    std::string verb;
    std::string node;
    file >> verb >> node;
    std::string answer = "ok";
    try {
      if (verb == "kill-node") cluster.KillNode(node);
      if (verb == "boot-node") cluster.BootNode(node);
      if (verb == "kill-control-plane") cluster.KillControlPlane();
      if (verb == "start-control-plane") cluster.StartControlPlane();
    } catch (const std::exception& error) {
      answer = error.what();
    }
    std::ofstream(cluster.dir() / "answer.new") << answer;
    fs::remove(request);
    fs::rename(cluster.dir() / "answer.new", cluster.dir() / "answer");
  }
  kubelet.reset();
  cluster.Stop();
  return 0;
}

// Starts `up` as a process of its own that goes on when this one has ended, which it does once the
// cluster is up.
int Detach(const ClusterOptions& options, const std::string& nodes, bool control_plane) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  fs::create_directories(options.dir);
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    setsid();
    const int null = open("/dev/null", O_RDONLY);
    const int log =
        open((options.dir / "testbed.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    int status = 1;
    try {
      status = Up(options, nodes, control_plane, ends[1]);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "pointsman-testbed: %s\n", error.what());
    }
    _exit(status);
  }
  close(ends[1]);
  char ready = 0;
  if (read(ends[0], &ready, 1) != 1) {
    std::fprintf(stderr, "the cluster did not start; see %s\n",
                 (options.dir / "testbed.log").c_str());
    return 1;
  }
  std::printf("up; its directory is %s\n", options.dir.c_str());
  return 0;
}

int Down(const fs::path& dir) {
  pid_t owner = 0;
  try {
    owner = AttachedCluster(dir).owner();
  } catch (const std::runtime_error& error) {
    // Nothing of it is left then but its files: its namespaces ended with it.
    std::printf("%s\n", error.what());
    return 0;
  }
  const pointsman::UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_open, owner, 0)));
  if (!fd) throw std::system_error(errno, std::generic_category(), "pidfd_open");
  kill(owner, SIGTERM);
  pollfd entry{fd.get(), POLLIN, 0};
  if (poll(&entry, 1, 30'000) != 1) {
    kill(owner, SIGKILL);
    poll(&entry, 1, 10'000);
  }
  return 0;
}

int Ask(const fs::path& dir, const std::string& request) {
  const AttachedCluster cluster(dir);
  fs::remove(dir / "answer");
  std::ofstream(dir / "request") << request;
  kill(cluster.owner(), SIGHUP);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(90);
  while (!fs::exists(dir / "answer")) {
    if (std::chrono::steady_clock::now() > deadline)
      throw std::runtime_error("no answer from the cluster's owner");
    poll(nullptr, 0, 20);
  }
  std::ifstream file(dir / "answer");
  const std::string answer((std::istreambuf_iterator<char>(file)), {});
  if (answer == "ok") return 0;
  std::fprintf(stderr, "%s\n", answer.c_str());
  return 1;
}

int Exec(const fs::path& dir, const std::string& node, const std::vector<std::string>& argv,
         const std::string& pod) {
  const AttachedCluster cluster(dir);
  ExecOptions options;
  options.timeout = std::chrono::hours(24);
  options.netns = pod;
  if (isatty(0) == 0) {
    std::string buffer(std::size_t{64} * 1024, '\0');
    ssize_t got = 0;
    while ((got = read(0, buffer.data(), buffer.size())) > 0)
      options.input.append(buffer, 0, static_cast<std::size_t>(got));
  }
  const ExecResult result = cluster.node(node).client().ExecStreaming(
      argv, options, [](std::string_view data, bool error) {
        FILE* to = error ? stderr : stdout;
        std::fwrite(data.data(), 1, data.size(), to);
        std::fflush(to);
      });
  return result.signal != 0 ? 128 + result.signal : result.exit;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A Kubernetes cluster of real kernels on this machine, for tests",
               "pointsman-testbed");
  app.require_subcommand(1);
  std::string dir = "build/testbed/default";
  app.add_option("--dir", dir, "The cluster's directory")->capture_default_str();
  app.fallthrough();

  ClusterOptions options;
  std::string nodes = "uml,uml,uml";
  std::string version;
  bool no_control_plane = false;
  bool detach = false;
  CLI::App* up = app.add_subcommand("up", "Start a cluster; it ends with this command (Ctrl-C)");
  up->add_option(
        "--nodes", nodes,
        "uml, uml!MODULE+MODULE* (without these), uml-no-modules, vm, vm!… or netns, with commas "
        "between")
      ->capture_default_str();
  up->add_option("--bin-dir", options.bin_dir, "Where the programs are");
  up->add_option("--emulate-version", version, "The control plane's Kubernetes version");
  up->add_flag("--no-control-plane", no_control_plane);
  up->add_flag("--detach", detach, "Return when it is up; `down` ends it");
  CLI::App* down = app.add_subcommand("down", "End a cluster");

  std::string node;
  std::string pod;
  std::vector<std::string> command;
  CLI::App* exec = app.add_subcommand("exec", "Run a command on a node");
  exec->add_option("node", node)->required();
  exec->add_option("command", command)->required();
  CLI::App* pod_exec = app.add_subcommand("pod-exec", "Run a command in a pod's network");
  pod_exec->add_option("node", node)->required();
  pod_exec->add_option("pod", pod, "NAMESPACE_NAME")->required();
  pod_exec->add_option("command", command)->required();
  CLI::App* outside =
      app.add_subcommand("outside", "Run a command on the client outside of the cluster");
  outside->add_option("command", command)->required();
  std::map<CLI::App*, std::string> requests;
  for (const char* verb : {"kill-node", "boot-node"}) {
    CLI::App* request = app.add_subcommand(verb);
    request->add_option("node", node)->required();
    requests[request] = verb;
  }
  for (const char* verb : {"kill-control-plane", "start-control-plane"})
    requests[app.add_subcommand(verb)] = verb;
  CLI11_PARSE(app, argc, argv);
  try {
    options.dir = fs::absolute(dir).lexically_normal();
    if (up->parsed()) {
      if (!version.empty()) options.control_plane_args = {"--emulate-version", version};
      return detach ? Detach(options, nodes, !no_control_plane)
                    : Up(options, nodes, !no_control_plane, -1);
    }
    if (down->parsed()) return Down(options.dir);
    if (exec->parsed()) return Exec(options.dir, node, command, "");
    if (pod_exec->parsed()) return Exec(options.dir, node, command, pod);
    if (outside->parsed()) return Exec(options.dir, "outside", command, "");
    for (const auto& [request, verb] : requests) {
      if (request->parsed()) return Ask(options.dir, fmt::format("{} {}", verb, node));
    }
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pointsman-testbed: %s\n", error.what());
    return 1;
  }
}
