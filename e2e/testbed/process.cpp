#include "e2e/testbed/process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

extern char** environ;

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void Throw(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::pair<UniqueFd, UniqueFd> Pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) Throw("pipe");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

UniqueFd PidFd(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// The program of a child and its environment, made before the fork: after it nothing may allocate.
class ChildImage {
 public:
  explicit ChildImage(const SpawnOptions& options) : argv_(options.argv) {
    for (char** item = environ; *item != nullptr; ++item)
      environment_.emplace_back(*item);
    for (const auto& [name, value] : options.env) {
      const std::string prefix = name + "=";
      std::erase_if(environment_, [&](const auto& item) { return item.starts_with(prefix); });
      environment_.push_back(prefix + value);
    }
    for (auto& item : argv_)
      argv_pointers_.push_back(item.data());
    for (auto& item : environment_)
      environment_pointers_.push_back(item.data());
    argv_pointers_.push_back(nullptr);
    environment_pointers_.push_back(nullptr);
  }

  // In the child, with only async-signal-safe calls up to exec. What fails is written to `failure`
  // as an errno.
  [[noreturn]] void Become(const SpawnOptions& options, int in, int out, int error, int failure) {
    setsid();
    const auto child_failed = [&] {
      const int number = errno;
      (void)!write(failure, &number, sizeof number);
      _exit(127);
    };
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(error, 2) < 0) child_failed();
    if (!options.cwd.empty() && chdir(options.cwd.c_str()) != 0) child_failed();
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (options.keep >= 0) fcntl(options.keep, F_SETFD, 0);
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, nullptr);
    signal(SIGPIPE, SIG_DFL);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): a child with one thread.
    execvpe(argv_pointers_[0], argv_pointers_.data(), environment_pointers_.data());
    child_failed();
    _exit(127);
  }

 private:
  std::vector<std::string> argv_;
  std::vector<std::string> environment_;
  std::vector<char*> argv_pointers_;
  std::vector<char*> environment_pointers_;
};

}  // namespace

Process::~Process() {
  Kill();
}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    Kill();
    pid_ = std::exchange(other.pid_, -1);
    name_ = std::move(other.name_);
    status_ = std::exchange(other.status_, std::nullopt);
  }
  return *this;
}

bool Process::Running() {
  if (pid_ <= 0 || status_) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  status_ = status;
  return false;
}

void Process::Signal(int signal) {
  if (Running() && kill(-pid_, signal) != 0 && errno != ESRCH)
    Throw("signal " + std::to_string(signal) + " to " + name_);
}

bool Process::WaitFor(std::chrono::milliseconds timeout) {
  if (!Running()) return true;
  const UniqueFd fd = PidFd(pid_);
  pollfd entry{fd.get(), POLLIN, 0};
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (poll(&entry, 1, static_cast<int>(std::max<std::int64_t>(left, 0))) > 0 || left <= 0)
      return !Running();
  }
}

void Process::Kill() {
  if (pid_ <= 0 || status_) return;
  kill(-pid_, SIGKILL);
  kill(pid_, SIGKILL);  // it may not have become a group leader yet
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  status_ = status;
}

std::string Process::HowEnded() const {
  if (!status_) return "running";
  return WIFSIGNALED(*status_) ? "signal " + std::to_string(WTERMSIG(*status_))
                               : "exit status " + std::to_string(WEXITSTATUS(*status_));
}

Process Spawn(const SpawnOptions& options) {
  ChildImage image(options);
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) Throw("open /dev/null");
  UniqueFd log;
  if (!options.log.empty()) {
    log = UniqueFd(open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!log.valid()) Throw("open " + options.log);
  }
  const int in = options.in >= 0 ? options.in : null.get();
  const int error = log.valid() ? log.get() : options.out >= 0 ? options.out : 2;
  const int out = options.out >= 0 ? options.out : log.valid() ? log.get() : 1;
  auto [failure_read, failure_write] = Pipe();

  pid_t pid = -1;
  std::string failed;
  int failed_errno = 0;
  // A thread of its own enters the namespaces and forks: the child is still this process's child.
  std::thread([&, &failure_write = failure_write] {
    const auto fail = [&](const char* what) {
      failed = what;
      failed_errno = errno;
    };
    if (options.mount_ns >= 0 &&
        (unshare(CLONE_FS) != 0 || setns(options.mount_ns, CLONE_NEWNS) != 0))
      return fail("enter mount namespace");
    if (options.net_ns >= 0 && setns(options.net_ns, CLONE_NEWNET) != 0)
      return fail("enter network namespace");
    if (options.pid_ns >= 0 && setns(options.pid_ns, CLONE_NEWPID) != 0)
      return fail("enter pid namespace");
    pid = static_cast<pid_t>(syscall(
        SYS_clone, static_cast<unsigned long>(options.new_namespaces | SIGCHLD), 0, 0, 0, 0));
    if (pid < 0) return fail("clone");
    if (pid > 0) return;
    image.Become(options, in, out, error, failure_write.get());
  }).join();
  if (pid < 0) {
    errno = failed_errno;
    Throw(failed + " for " + options.argv.front());
  }
  Process process(pid, options.argv.front());
  failure_write.Reset();
  int number = 0;
  if (read(failure_read.get(), &number, sizeof number) == sizeof number) {
    process.Kill();
    errno = number;
    Throw("start " + options.argv.front());
  }
  return process;
}

RunResult Run(SpawnOptions options, const std::string& input, std::chrono::milliseconds timeout) {
  if (input.size() > 60'000)
    throw std::invalid_argument("the input of a command is longer than a pipe holds");
  auto [in_read, in_write] = Pipe();
  auto [out_read, out_write] = Pipe();
  if (!input.empty() && write(in_write.get(), input.data(), input.size()) < 0)
    Throw("write to a pipe");
  in_write.Reset();
  options.in = in_read.get();
  options.out = out_write.get();
  Process process = Spawn(options);
  in_read.Reset();
  out_write.Reset();
  RunResult result;
  std::string buffer(std::size_t{64} * 1024, '\0');
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd entry{out_read.get(), POLLIN, 0};
    if (left <= 0 || poll(&entry, 1, static_cast<int>(left)) == 0) {
      throw std::runtime_error(process.name() + " is still running after " +
                               std::to_string(timeout.count()) + " ms; it printed: " + result.out);
    }
    const ssize_t got = read(out_read.get(), buffer.data(), buffer.size());
    if (got < 0 && errno != EINTR) Throw("read from " + process.name());
    if (got == 0) break;
    if (got > 0) result.out.append(buffer, 0, static_cast<std::size_t>(got));
  }
  process.WaitFor(std::chrono::seconds(5));
  if (process.Running())
    throw std::runtime_error(process.name() + " closed its output but does not end");
  const std::string ended = process.HowEnded();
  const int code = std::stoi(ended.substr(ended.rfind(' ') + 1));
  result.exit = ended.starts_with("signal") ? 128 + code : code;
  return result;
}

std::optional<std::uint64_t> ProcessStartTime(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The name, in parentheses, may hold spaces; the start time is the 22nd field (proc(5)).
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) {
    fields >> field;
    if (i == 3 && field == "Z") return std::nullopt;  // ended, only not reaped
  }
  return std::stoull(field);
}

Sandbox::Sandbox(const std::string& node_init) {
  // A socket pair and not a pipe: it reports back over the same descriptor.
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) Throw("socketpair");
  owner_ = UniqueFd(ends[0]);
  UniqueFd other(ends[1]);
  SpawnOptions options;
  options.argv = {node_init, "sandbox", std::to_string(other.get())};
  options.keep = other.get();
  options.cwd = "/";
  options.new_namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET;
  process_ = Spawn(options);
  other.Reset();
  char ready = 0;
  if (read(owner_.get(), &ready, 1) != 1) {
    process_.WaitFor(std::chrono::seconds(5));
    throw std::runtime_error("the cluster's namespaces could not be made: " + process_.HowEnded());
  }
  const std::string base = "/proc/" + std::to_string(process_.pid()) + "/ns/";
  pid_ns_ = UniqueFd(open((base + "pid").c_str(), O_RDONLY | O_CLOEXEC));
  mount_ns_ = UniqueFd(open((base + "mnt").c_str(), O_RDONLY | O_CLOEXEC));
  net_ns_ = UniqueFd(open((base + "net").c_str(), O_RDONLY | O_CLOEXEC));
  if (!pid_ns_.valid() || !mount_ns_.valid() || !net_ns_.valid()) Throw("open " + base);
}

void InNetworkNamespace(int net_ns, const std::function<void()>& make) {
  std::exception_ptr failed;
  std::thread([&] {
    try {
      if (setns(net_ns, CLONE_NEWNET) != 0) Throw("enter the cluster's network namespace");
      make();
    } catch (...) {
      failed = std::current_exception();  // rethrown below, on the caller's thread
    }
  }).join();
  if (failed) std::rethrow_exception(failed);
}

}  // namespace pointsman::e2e
