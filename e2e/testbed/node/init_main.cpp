// pointsman-node-init: the first process of a test node. In a node with a kernel of its own
// (User-Mode Linux, a virtual machine) it is PID 1 of the machine; in a namespace node it is PID 1
// of the node's PID namespace. It sets up mounts and network from $POINTSMAN_NODE_CONFIG (JSON,
// written by the testbed) and then serves commands (see frame.h).
//
// As `pointsman-node-init namespaces` it makes the namespaces of such a node first.
// As `pointsman-node-init sandbox FD` it is the first process of a cluster's namespaces instead: it
// lives until the other end of the pipe FD is closed, that is as long as the cluster's owner, and
// with it the kernel ends every process, mount, interface and namespace of the cluster.
#include <arpa/inet.h>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/testbed/node/frame.h"
#include "e2e/traffic/socket.h"

extern char** environ;

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

[[noreturn]] void Throw(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void Mount(const std::string& source, const std::string& target, const char* type,
           unsigned long flags, const char* data = nullptr) {
  if (mount(source.c_str(), target.c_str(), type, flags, data) != 0)
    Throw("mount " + source + " on " + target);
}

// Exit statuses of this process's children: those somebody asks for are kept, orphans are just
// reaped.
class Children {
 public:
  struct Status {
    bool running = true;
    int exit = 0;
    int signal = 0;
  };

  Children() {
    std::thread([this] { Reap(); }).detach();
  }

  // Runs `in_child` in a child; it must end in exec or _exit and is limited to async-signal-safe
  // calls.
  pid_t Start(const std::function<void()>& in_child) {
    const std::lock_guard lock(mutex_);
    const pid_t pid = fork();
    if (pid < 0) Throw("fork");
    if (pid == 0) {
      in_child();
      _exit(127);
    }
    statuses_[pid] = Status{};
    started_.notify_all();
    return pid;
  }

  // Readable when that child has ended. Owned by the caller.
  UniqueFd EndEvent(pid_t pid) {
    UniqueFd event(eventfd(0, EFD_CLOEXEC));
    if (!event.valid()) Throw("eventfd");
    const std::lock_guard lock(mutex_);
    const auto found = statuses_.find(pid);
    if (found == statuses_.end() || !found->second.running) {
      eventfd_write(event.get(), 1);
    } else {
      waiters_.emplace(pid, dup(event.get()));
    }
    return event;
  }

  std::optional<Status> Get(pid_t pid) {
    const std::lock_guard lock(mutex_);
    const auto found = statuses_.find(pid);
    return found == statuses_.end() ? std::nullopt : std::optional(found->second);
  }

  void Forget(pid_t pid) {
    const std::lock_guard lock(mutex_);
    statuses_.erase(pid);
  }

 private:
  void Reap() {
    for (;;) {
      int raw = 0;
      const pid_t pid = waitpid(-1, &raw, 0);
      std::unique_lock lock(mutex_);
      if (pid < 0) {
        // No child now. An orphan may come only from a child of ours, so the next start is soon
        // enough.
        started_.wait(lock, [this] {
          return std::any_of(statuses_.begin(), statuses_.end(),
                             [](const auto& item) { return item.second.running; });
        });
        continue;
      }
      const auto found = statuses_.find(pid);
      if (found == statuses_.end()) continue;
      found->second.running = false;
      found->second.exit = WIFEXITED(raw) ? WEXITSTATUS(raw) : 0;
      found->second.signal = WIFSIGNALED(raw) ? WTERMSIG(raw) : 0;
      const auto [begin, end] = waiters_.equal_range(pid);
      for (auto waiter = begin; waiter != end; ++waiter) {
        eventfd_write(waiter->second, 1);
        close(waiter->second);
      }
      waiters_.erase(begin, end);
    }
  }

  std::mutex mutex_;
  std::condition_variable started_;
  std::map<pid_t, Status> statuses_;
  std::multimap<pid_t, int> waiters_;
};

// argv, environment and namespaces of a command, made before the fork: after it nothing may
// allocate.
struct Command {
  std::vector<std::string> argv, environment;
  std::vector<char*> argv_pointers, environment_pointers;
  std::string cwd;
  UniqueFd netns;
  // Bind mounts that only this command sees: from, to.
  std::vector<std::pair<std::string, std::string>> mounts;

  explicit Command(const json& request) {
    argv = request.at("argv").get<std::vector<std::string>>();
    if (argv.empty()) throw std::invalid_argument("argv is empty");
    for (char** item = environ; *item != nullptr; ++item)
      environment.emplace_back(*item);
    const json added = request.value("env", json::object());
    for (const auto& [name, value] : added.items()) {
      std::erase_if(environment, [&](const auto& item) { return item.starts_with(name + "="); });
      environment.push_back(name + "=" + value.get<std::string>());
    }
    for (auto& item : argv)
      argv_pointers.push_back(item.data());
    for (auto& item : environment)
      environment_pointers.push_back(item.data());
    argv_pointers.push_back(nullptr);
    environment_pointers.push_back(nullptr);
    cwd = request.value("cwd", "/");
    for (const auto& mount : request.value("mounts", json::array())) {
      mounts.emplace_back(mount.at("from"), mount.at("to"));
      fs::create_directories(mounts.back().second);
    }
    if (const std::string name = request.value("netns", ""); !name.empty()) {
      netns = UniqueFd(open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
      if (!netns.valid()) Throw("network namespace " + name);
    }
  }

  // In the child.
  [[noreturn]] void Exec(int in, int out, int error) {
    setsid();
    if (netns.valid() && setns(netns.get(), CLONE_NEWNET) != 0) _exit(126);
    if (!mounts.empty() && unshare(CLONE_NEWNS) != 0) _exit(126);
    for (const auto& [from, to] : mounts) {
      if (mount(from.c_str(), to.c_str(), nullptr, MS_BIND, nullptr) != 0) _exit(126);
    }
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(error, 2) < 0 || chdir(cwd.c_str()) != 0)
      _exit(126);
    close_range(3, ~0U, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    signal(SIGPIPE, SIG_DFL);
    execvpe(argv_pointers[0], argv_pointers.data(), environment_pointers.data());
    const char* text = strerror(errno);
    (void)!write(2, argv_pointers[0], strlen(argv_pointers[0]));
    (void)!write(2, ": ", 2);
    (void)!write(2, text, strlen(text));
    (void)!write(2, "\n", 1);
    _exit(errno == ENOENT ? 127 : 126);
  }
};

std::pair<UniqueFd, UniqueFd> Pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) Throw("pipe");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

UniqueFd Open(const std::string& path, int flags, mode_t mode = 0644) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd.valid()) Throw("open " + path);
  return fd;
}

void WriteFile(const std::string& path, std::string_view text) {
  const UniqueFd fd = Open(path, O_WRONLY);
  if (write(fd.get(), text.data(), text.size()) < 0)
    Throw("write '" + std::string(text) + "' to " + path);
}

class NodeInit {
 public:
  explicit NodeInit(json config) : config_(std::move(config)) {}

  void SetUp() {
    const std::string name = config_.at("name");
    if (sethostname(name.c_str(), name.size()) != 0) Throw("sethostname " + name);
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    // Directories that must stay what they are on the machine, opened before a tmpfs hides them.
    std::vector<std::pair<std::string, UniqueFd>> kept;
    for (const std::string path : config_.value("keep", json::array()))
      kept.emplace_back(path, Open(path, O_PATH | O_DIRECTORY));
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) Throw("make / private");
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
    if (prctl(PR_SET_DUMPABLE, 1) != 0) Throw("prctl");
    for (const auto& argv : config_.value("beforeNetwork", json::array()))
      Run(argv);
    AwaitInterface(config_.at("interface"));
    for (const auto& argv : config_.at("commands"))
      Run(argv);
    for (const auto& [path, value] : config_.at("sysctls").items()) {
      // What a kernel does not have needs no setting (bridge-nf-call-iptables without
      // br_netfilter).
      const std::string file = "/proc/sys/" + path;
      if (fs::exists(file)) WriteFile(file, value.get<std::string>());
    }
  }

  [[noreturn]] void Serve() {
    const Endpoint local = MakeEndpoint(config_.at("address").get<std::string>(), kNodePort);
    const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&local.address), local.size) != 0 ||
        listen(listener.get(), 128) != 0) {
      Throw("listen on " + local.ToString());
    }
    for (;;) {
      UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection.valid()) continue;
      setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      std::thread([this, fd = std::move(connection)]() mutable { ServeOne(fd.get()); }).detach();
    }
  }

 private:
  // A command of the set-up; it fails the node.
  void Run(const json& step) {
    Command command(step.is_object() ? step : json{{"argv", step}});
    auto [read_end, write_end] = Pipe();
    if (const std::string text = step.is_object() ? step.value("stdin", "") : ""; !text.empty()) {
      // A batch is smaller than a pipe's buffer (64 KiB), or this would block.
      if (text.size() > 60'000)
        throw std::invalid_argument("stdin of a set-up command is too long");
      if (write(write_end.get(), text.data(), text.size()) < 0) Throw("write to a pipe");
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

  void ServeOne(int fd) {
    try {
      const auto first = ReadFrame(fd);
      if (!first) return;
      try {
        const json request = json::parse(first->payload);
        // A node's processes share its address: without the token a pod could run commands.
        if (first->type != 'R' || request.at("token") != config_.at("token"))
          throw std::runtime_error("wrong token");
        WriteFrame(fd, 'X', Answer(fd, request).dump());
      } catch (const std::system_error& error) {
        WriteFrame(fd, '!', error.what());
      } catch (const std::exception& error) {
        WriteFrame(fd, '!', error.what());
      }
    } catch (const std::exception& error) {
      // The other side has gone: nobody to tell but the console.
      std::fprintf(stderr, "node-init: %s\n", error.what());
    }
  }

  json Answer(int fd, const json& request) {
    const std::string op = request.at("op");
    if (op == "ping") return {{"boot", boot_id_}};
    if (op == "exec") return Exec(fd, request);
    if (op == "start") {
      Command command(request);
      const UniqueFd in = Open("/dev/null", O_RDONLY);
      const UniqueFd log = Open(request.at("log"), O_WRONLY | O_CREAT | O_APPEND);
      return {{"pid", children_.Start([&] { command.Exec(in.get(), log.get(), log.get()); })}};
    }
    if (op == "status") {
      const auto status = children_.Get(request.at("pid"));
      if (!status)
        throw std::runtime_error("no process " + request.at("pid").dump() + " was started here");
      return ToJson(*status);
    }
    if (op == "signal") {
      const pid_t pid = request.at("pid");
      const auto status = children_.Get(pid);
      if (!status)
        throw std::runtime_error("no process " + std::to_string(pid) + " was started here");
      // The group: a wrapper's children too. Ended meanwhile is no error.
      if (status->running && kill(-pid, request.at("signal").get<int>()) != 0 && errno != ESRCH)
        Throw("kill");
      return json::object();
    }
    if (op == "put") {
      const std::string path = request.at("path");
      fs::create_directories(fs::path(path).parent_path());
      const UniqueFd file =
          Open(path + ".new", O_WRONLY | O_CREAT | O_TRUNC, request.value("mode", 0644U));
      for (auto frame = ReadFrame(fd); frame && frame->type == 'I'; frame = ReadFrame(fd)) {
        if (write(file.get(), frame->payload.data(), frame->payload.size()) !=
            static_cast<ssize_t>(frame->payload.size()))
          Throw("write " + path);
      }
      if (fchown(file.get(), request.value("owner", 0U), static_cast<gid_t>(-1)) != 0)
        Throw("chown " + path);
      fs::rename(path + ".new", path);
      return json::object();
    }
    if (op == "get") {
      const UniqueFd file = Open(request.at("path"), O_RDONLY);
      std::string buffer(64 * 1024, '\0');
      for (;;) {
        const ssize_t got = read(file.get(), buffer.data(), buffer.size());
        if (got < 0) Throw("read " + request.at("path").get<std::string>());
        if (got == 0) return json::object();
        WriteFrame(fd, 'O', std::string_view(buffer).substr(0, static_cast<std::size_t>(got)));
      }
    }
    throw std::invalid_argument("unknown op '" + op + "'");
  }

  static json ToJson(const Children::Status& status) {
    return {{"running", status.running}, {"exit", status.exit}, {"signal", status.signal}};
  }

  json Exec(int fd, const json& request) {
    Command command(request);
    auto [in_read, in_write] = Pipe();
    auto [out_read, out_write] = Pipe();
    auto [error_read, error_write] = Pipe();
    const pid_t pid =
        children_.Start([&, in = in_read.get(), out = out_write.get(), error = error_write.get()] {
          command.Exec(in, out, error);
        });
    in_read.Reset();
    out_write.Reset();
    error_write.Reset();
    const UniqueFd ended = children_.EndEvent(pid);
    std::string buffer(64 * 1024, '\0');
    // Copies what is there; false at the end of the pipe.
    const auto copy = [&](int from, char type) {
      const ssize_t got = read(from, buffer.data(), buffer.size());
      if (got > 0)
        WriteFrame(fd, type, std::string_view(buffer).substr(0, static_cast<std::size_t>(got)));
      return got > 0;
    };
    // Stdin is written as the program takes it, and the next piece is read from the caller only
    // then: a program that writes before it reads must not be held up by its own input.
    fcntl(in_write.get(), F_SETFL, O_NONBLOCK);
    std::string input;
    bool input_ended = false;
    bool done = false;
    try {
      while (true) {
        const bool takes_frame = !done && input.empty();
        const bool feeds = !done && in_write.valid() && !input.empty();
        std::array<pollfd, 5> entries{{{out_read.get(), POLLIN, 0},
                                       {error_read.get(), POLLIN, 0},
                                       {done ? -1 : ended.get(), POLLIN, 0},
                                       {takes_frame ? fd : -1, POLLIN, 0},
                                       {feeds ? in_write.get() : -1, POLLOUT, 0}}};
        // After the end only what the pipes still hold: a daemon it left may keep them open.
        const int ready = poll(entries.data(), entries.size(), done ? 0 : -1);
        if (ready < 0 && errno != EINTR) Throw("poll");
        if (ready == 0 && done) break;
        if (entries[0].revents != 0 && !copy(out_read.get(), 'O')) out_read.Reset();
        if (entries[1].revents != 0 && !copy(error_read.get(), 'e')) error_read.Reset();
        if (entries[2].revents != 0) {
          done = true;
          continue;
        }
        if (done && !out_read.valid() && !error_read.valid()) break;
        if (entries[4].revents != 0) {
          const ssize_t wrote = write(in_write.get(), input.data(), input.size());
          if (wrote > 0) input.erase(0, static_cast<std::size_t>(wrote));
          if (wrote < 0 && errno != EAGAIN && errno != EINTR) {
            in_write.Reset();  // it reads no more
            input.clear();
          }
        }
        if (entries[3].revents != 0) {
          auto frame = ReadFrame(fd);
          if (!frame) throw std::system_error(ECONNRESET, std::generic_category(), "caller left");
          if (frame->type == 'I' && in_write.valid()) input = std::move(frame->payload);
          if (frame->type == 'E') input_ended = true;
        }
        if (input_ended && input.empty()) in_write.Reset();
      }
    } catch (const std::exception&) {
      // The caller has gone (Ctrl-C): what it ran for goes too.
      if (!done) kill(-pid, SIGKILL);
      children_.Forget(pid);
      throw;
    }
    const auto status = children_.Get(pid);
    children_.Forget(pid);
    return ToJson(*status);
  }

  const json config_;
  // Another one after each boot: whoever remembers processes or networks of this node can tell that
  // they are gone.
  const std::string boot_id_ =
      std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
  Children children_;
};

int Sandbox(int owner) {
  // Only reaping: SIGCHLD ignored does that. Ends with the owner.
  signal(SIGCHLD, SIG_IGN);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) Throw("make / private");
  Mount("proc", "/proc", "proc", 0);
  Mount("tmpfs", "/run", "tmpfs",
        0);  // the kernels' control sockets, which have to have short names
  fs::create_directory("/run/uml");
  if (write(owner, "1", 1) != 1) Throw("tell the owner");
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
    Throw("unshare");
  const pid_t pid = fork();
  if (pid < 0) Throw("fork");
  if (pid == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) Throw("prctl");
    return node_main();
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int NodeMain() {
  signal(SIGPIPE, SIG_IGN);
  const char* file = getenv("POINTSMAN_NODE_CONFIG");
  if (file == nullptr) throw std::runtime_error("POINTSMAN_NODE_CONFIG is not set");
  std::ifstream stream(file);
  NodeInit init(json::parse(stream));
  init.SetUp();
  init.Serve();
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
