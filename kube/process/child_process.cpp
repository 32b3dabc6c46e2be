#include "kube/process/child_process.h"

#include <cerrno>
#include <mutex>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <time.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "kube/process/child_wait.h"

namespace pointsman::kube {
namespace {

constexpr size_t kMaxErrorOutput = size_t{64} * 1024;

class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  void Dup(int from, int to) {
    if (int error = posix_spawn_file_actions_adddup2(&actions_, from, to)) {
      ThrowErrno("posix_spawn_file_actions_adddup2", error);
    }
  }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

class SpawnAttributes {
 public:
  SpawnAttributes() {
    posix_spawnattr_init(&attributes_);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  ~SpawnAttributes() { posix_spawnattr_destroy(&attributes_); }
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

// Becomes readable when a stop is requested.
class StopSignal {
 public:
  explicit StopSignal(const std::stop_token& stop)
      : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), callback_(stop, Raise{fd_.get()}) {
    if (!fd_) ThrowErrno("eventfd", errno);
  }
  int fd() const { return fd_.get(); }

 private:
  struct Raise {
    int fd;
    void operator()() const { ::eventfd_write(fd, 1); }
  };
  UniqueFd fd_;
  std::stop_callback<Raise> callback_;
};

constexpr std::chrono::seconds kKillTimeout{5};
// What part of its time a child that works is on a processor at least, also on a busy machine.
constexpr int kWorks = 100;

// Children that SIGKILL did not end in time: they hang in the kernel. Reaped when they are looked
// for the next time.
class Abandoned {
 public:
  void Add(pid_t pid) {
    const std::lock_guard lock(mutex_);
    pids_.push_back(pid);
  }
  void Reap() {
    const std::lock_guard lock(mutex_);
    std::erase_if(pids_, [](pid_t pid) {
      return WaitForChild(pid, std::chrono::milliseconds(0)).has_value();
    });
  }

 private:
  std::mutex mutex_;
  std::vector<pid_t> pids_;
};

Abandoned& AbandonedChildren() {
  static Abandoned children;
  return children;
}

// Kills and reaps unless reaped: no zombie and no stray child when something throws.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {
    // Not there for a kernel without it: then no child counts as working.
    has_clock_ = ::clock_getcpuclockid(pid, &clock_) == 0;
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0 || KillChild(pid_, /*group=*/true, kKillTimeout)) return;
    spdlog::error("process {} was killed and does not end: it hangs in the kernel", pid_);
    AbandonedChildren().Add(pid_);
  }
  // False: it still runs.
  bool Wait(std::chrono::milliseconds longest, int& exit_status) {
    const std::optional<int> status = WaitForChild(pid_, longest);
    if (!status) return false;
    pid_ = -1;
    exit_status = WIFSIGNALED(*status) ? 128 + WTERMSIG(*status) : WEXITSTATUS(*status);
    return true;
  }
  // Time on a processor so far.
  std::chrono::nanoseconds Worked() const {
    timespec time{};
    if (!has_clock_ || ::clock_gettime(clock_, &time) != 0) return {};
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }

 private:
  pid_t pid_;
  clockid_t clock_{};
  bool has_clock_ = false;
};

// How long a child may still run.
class Patience {
 public:
  Patience(const std::vector<std::string>& argv, const ChildLimits& limits, const Child& child)
      : argv_(argv), limits_(limits), child_(child) {}

  // Until it is to be asked the next time. Throws ChildKilled.
  std::chrono::milliseconds Left() {
    const Clock::time_point now = Clock::now();
    if (now >= next_) {
      const std::chrono::nanoseconds worked = child_.Worked();
      if (now - began_ >= limits_.most || worked - worked_before_ < limits_.idle / kWorks) {
        throw ChildKilled(
            argv_, fmt::format("it had not ended after {:.1f} s, {:.1f} s of them on a processor",
                               Seconds(now - began_), Seconds(worked)));
      }
      worked_before_ = worked;
      next_ = now + limits_.idle;
    }
    return std::chrono::ceil<std::chrono::milliseconds>(next_ - now);
  }
  void CountOutput(size_t bytes) {
    output_ += bytes;
    if (output_ <= limits_.output) return;
    throw ChildKilled(argv_, fmt::format("it wrote more than {} bytes", limits_.output));
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double Seconds(std::chrono::nanoseconds time) {
    return std::chrono::duration<double>(time).count();
  }

  const std::vector<std::string>& argv_;
  const ChildLimits& limits_;
  const Child& child_;
  const Clock::time_point began_ = Clock::now();
  Clock::time_point next_ = began_ + limits_.idle;
  std::chrono::nanoseconds worked_before_{};
  uint64_t output_ = 0;
};

void Pipe(UniqueFd& read_end, UniqueFd& write_end) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) < 0) ThrowErrno("pipe2", errno);
  read_end.Reset(fds[0]);
  write_end.Reset(fds[1]);
}

}  // namespace

ChildKilled::ChildKilled(const std::vector<std::string>& argv, std::string limit_)
    : std::runtime_error(fmt::format("{} was killed: {}", fmt::join(argv, " "), limit_)),
      limit(std::move(limit_)) {}

ChildExit RunChild(const std::vector<std::string>& argv, std::span<const std::string_view> input,
                   const std::function<void(std::string_view)>& on_output,
                   const ChildLimits& limits, const std::stop_token& stop) {
  AbandonedChildren().Reap();
  // stdin is a socket and not a pipe: MSG_NOSIGNAL then spares us a SIGPIPE when the child ends
  // without having read everything.
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
    ThrowErrno("socketpair", errno);
  }
  UniqueFd in(sockets[0]);
  UniqueFd child_in(sockets[1]);
  UniqueFd out;
  UniqueFd child_out;
  UniqueFd err;
  UniqueFd child_err;
  Pipe(out, child_out);
  Pipe(err, child_err);
  // One megabyte instead of 64 KiB saves a thousand wake-ups for a big rule set; not being allowed
  // to is no problem.
  ::fcntl(out.get(), F_SETPIPE_SZ, 1 << 20);

  SpawnActions actions;
  actions.Dup(child_in.get(), STDIN_FILENO);
  actions.Dup(child_out.get(), STDOUT_FILENO);
  actions.Dup(child_err.get(), STDERR_FILENO);
  SpawnAttributes attributes;
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const std::string& argument : argv)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = -1;
  if (int error = ::posix_spawn(&pid, arguments[0], actions.get(), attributes.get(),
                                arguments.data(), environ)) {
    ThrowErrno("start " + argv[0], error);
  }
  Child child(pid);
  Patience patience(argv, limits, child);
  child_in.Reset();
  child_out.Reset();
  child_err.Reset();
  std::string_view piece;
  auto next_piece = [&] {
    while (piece.empty() && !input.empty()) {
      piece = input.front();
      input = input.subspan(1);
    }
    if (piece.empty()) in.Reset();
  };
  next_piece();

  const StopSignal stop_signal(stop);
  ChildExit result;
  std::vector<char> buffer(size_t{256} * 1024);
  bool out_open = true;
  bool err_open = true;
  while (out_open || err_open) {
    pollfd fds[4] = {{out_open ? out.get() : -1, POLLIN, 0},
                     {err_open ? err.get() : -1, POLLIN, 0},
                     {in.get(), POLLOUT, 0},
                     {stop_signal.fd(), POLLIN, 0}};
    if (::poll(fds, 4, static_cast<int>(patience.Left().count())) < 0) {
      if (errno == EINTR) continue;
      ThrowErrno("poll " + argv[0], errno);
    }
    if (fds[3].revents != 0) throw ChildKilled(argv, "its end was asked for");
    for (int i = 0; i < 2; ++i) {
      if (fds[i].revents == 0) continue;
      ssize_t count = ::read(fds[i].fd, buffer.data(), buffer.size());
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (count < 0) ThrowErrno("read from " + argv[0], errno);
      patience.CountOutput(static_cast<size_t>(count));
      if (count == 0) {
        (i == 0 ? out_open : err_open) = false;
      } else if (i == 0) {
        if (on_output) on_output({buffer.data(), static_cast<size_t>(count)});
      } else if (result.error_output.size() < kMaxErrorOutput) {
        result.error_output.append(buffer.data(),
                                   std::min<size_t>(static_cast<size_t>(count),
                                                    kMaxErrorOutput - result.error_output.size()));
      }
    }
    if (fds[2].revents != 0) {
      ssize_t count = ::send(in.get(), piece.data(), std::min<size_t>(piece.size(), 1 << 20),
                             MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count >= 0) {
        piece.remove_prefix(static_cast<size_t>(count));
        next_piece();
      } else if (errno == EPIPE || errno == ECONNRESET) {
        in.Reset();  // it ended early; its exit status and stderr say why
      } else if (errno != EINTR && errno != EAGAIN) {
        ThrowErrno("write to " + argv[0], errno);
      }
    }
  }
  while (!child.Wait(patience.Left(), result.status)) {
  }
  return result;
}

}  // namespace pointsman::kube
