// pointsman-node-init: the first process of a test node. In a node with a kernel of its own
// (User-Mode Linux, a virtual machine) it is PID 1 of the machine; in a namespace node it is PID 1
// of the node's PID namespace. It sets up mounts and network from $POINTSMAN_NODE_CONFIG (JSON,
// written by the testbed) and then serves commands (see frame.h).
//
// As `pointsman-node-init namespaces` it makes the namespaces of such a node first.
// As `pointsman-node-init sandbox FD` it is the first process of a cluster's namespaces instead: it
// lives until the other end of the pipe FD is closed, that is as long as the cluster's owner, and
// with it the kernel ends every process, mount, interface and namespace of the cluster.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <net/if.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/testbed/node/children.h"
#include "e2e/testbed/node/command.h"
#include "e2e/testbed/node/node_service.h"
#include "e2e/testbed/node/system_call.h"

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void Mount(const std::string& source, const std::string& target, const char* type,
           unsigned long flags, const char* data = nullptr) {
  if (mount(source.c_str(), target.c_str(), type, flags, data) != 0)
    ThrowErrno("mount " + source + " on " + target);
}

void WriteFile(const std::string& path, std::string_view text) {
  const UniqueFd fd = Open(path, O_WRONLY);
  if (write(fd.get(), text.data(), text.size()) < 0)
    ThrowErrno("write '" + std::string(text) + "' to " + path);
}

class NodeSetUp {
 public:
  NodeSetUp(const json& config, Children& children) : config_(config), children_(children) {}

  void Run() {
    const std::string name = config_.at("name");
    if (sethostname(name.c_str(), name.size()) != 0) ThrowErrno("sethostname " + name);
    // NOLINTBEGIN(concurrency-mt-unsafe): before the first thread.
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    // NOLINTEND(concurrency-mt-unsafe)
    // Directories that must stay what they are on the machine, opened before a tmpfs hides them.
    std::vector<std::pair<std::string, UniqueFd>> kept;
    for (const std::string path : config_.value("keep", json::array()))
      kept.emplace_back(path, Open(path, O_PATH | O_DIRECTORY));
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      ThrowErrno("make / private");
    Mount("proc", "/proc", "proc", 0);
    Mount("sysfs", "/sys", "sysfs", 0);
    for (const std::string path : config_.at("tmpfs")) {
      if (fs::is_directory(path)) Mount("tmpfs", path, "tmpfs", 0, "mode=1777");
    }
    for (const auto& [path, fd] : kept) {
      fs::create_directories(path);
      Mount("/proc/self/fd/" + std::to_string(fd.get()), path, nullptr, MS_BIND);
    }
    // "ip netns" bind-mounts into this directory and wants it shared within the node.
    fs::create_directories("/run/netns");
    fs::create_directories("/run/lock");
    if (config_.at("ownKernel")) {
      fs::create_directories("/dev/pts");
      fs::create_directories("/dev/shm");
      Mount("devpts", "/dev/pts", "devpts", 0);
      Mount("tmpfs", "/dev/shm", "tmpfs", 0);
      fs::create_symlink("/proc/self/fd", "/dev/fd");
    }
    const std::string modules = config_.value("modules", "");
    if (!modules.empty()) {
      Mount(modules, "/lib/modules", nullptr, MS_BIND);
    } else {
      Mount("tmpfs", "/lib/modules", "tmpfs", 0);
    }
    if (prctl(PR_SET_DUMPABLE, 1) != 0) ThrowErrno("prctl");
    for (const auto& argv : config_.value("beforeNetwork", json::array()))
      RunCommand(argv);
    AwaitInterface(config_.at("interface"));
    for (const auto& argv : config_.at("commands"))
      RunCommand(argv);
    for (const auto& [path, value] : config_.at("sysctls").items()) {
      // What a kernel does not have needs no setting (bridge-nf-call-iptables without
      // br_netfilter).
      const std::string file = "/proc/sys/" + path;
      if (fs::exists(file)) WriteFile(file, value.get<std::string>());
    }
  }

 private:
  // A command of the set-up; it fails the node.
  void RunCommand(const json& step) {
    Command command(step.is_object() ? step : json{{"argv", step}});
    auto [read_end, write_end] = Pipe();
    if (const std::string text = step.is_object() ? step.value("stdin", "") : ""; !text.empty()) {
      // A batch is smaller than a pipe's buffer (64 KiB), or this would block.
      if (text.size() > 60'000)
        throw std::invalid_argument("stdin of a set-up command is too long");
      if (write(write_end.get(), text.data(), text.size()) < 0) ThrowErrno("write to a pipe");
    }
    write_end.Reset();
    const pid_t pid = children_.Start([&, in = read_end.get()] { command.Exec(in, 1, 2); });
    const UniqueFd ended = children_.EndEvent(pid);
    eventfd_t value = 0;
    while (eventfd_read(ended.get(), &value) != 0 && errno == EINTR) {
    }
    const auto status = children_.Get(pid);
    children_.Forget(pid);
    if (status->exit != 0 || status->signal != 0) {
      throw std::runtime_error("set-up command '" + command.argv.front() + "' failed: exit " +
                               std::to_string(status->exit) + ", signal " +
                               std::to_string(status->signal) + ": " + step.dump());
    }
  }

  static void AwaitInterface(const std::string& name) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (if_nametoindex(name.c_str()) == 0) {
      if (std::chrono::steady_clock::now() > deadline)
        throw std::runtime_error("no interface " + name);
      poll(nullptr, 0, 5);
    }
  }

  const json& config_;
  Children& children_;
};

int Sandbox(int owner) {
  // Only reaping: SIGCHLD ignored does that. Ends with the owner.
  signal(SIGCHLD, SIG_IGN);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ThrowErrno("make / private");
  Mount("proc", "/proc", "proc", 0);
  Mount("tmpfs", "/run", "tmpfs",
        0);  // the kernels' control sockets, which have to have short names
  fs::create_directory("/run/uml");
  if (write(owner, "1", 1) != 1) ThrowErrno("tell the owner");
  char byte = 0;
  while (read(owner, &byte, 1) != 0) {
    // Nothing is ever sent; an interrupted read goes on.
  }
  return 0;
}

// A namespace node: the namespaces are made here and not by the testbed's clone(), as a process
// that has entered a PID namespace cannot make its child the first of a nested one
// (pid_namespace.c, copy_pid_ns).
int NamespaceNode(const std::function<int()>& node_main) {
  if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC) != 0)
    ThrowErrno("unshare");
  const pid_t pid = fork();
  if (pid < 0) ThrowErrno("fork");
  if (pid == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) ThrowErrno("prctl");
    return node_main();
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int NodeMain() {
  signal(SIGPIPE, SIG_IGN);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): before the first thread.
  const char* file = getenv("POINTSMAN_NODE_CONFIG");
  if (file == nullptr) throw std::runtime_error("POINTSMAN_NODE_CONFIG is not set");
  std::ifstream stream(file);
  const json config = json::parse(stream);
  Children children;
  NodeSetUp(config, children).Run();
  NodeService(config.at("address"), config.at("token"), children).Serve();
}

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  try {
    if (argc == 3 && std::string_view(argv[1]) == "sandbox")
      return pointsman::e2e::Sandbox(std::stoi(argv[2]));
    if (argc == 2 && std::string_view(argv[1]) == "namespaces")
      return pointsman::e2e::NamespaceNode(pointsman::e2e::NodeMain);
    return pointsman::e2e::NodeMain();
  } catch (const std::exception& error) {
    // As PID 1 of a kernel, ending is a panic: the testbed sees the process end and shows this log.
    std::fprintf(stderr, "pointsman-node-init: %s\n", error.what());
    return 1;
  }
}
