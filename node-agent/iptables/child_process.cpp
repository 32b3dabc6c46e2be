#include "node-agent/iptables/child_process.h"

#include <cerrno>
#include <sys/socket.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

namespace pointsman::agent {
namespace {

constexpr size_t kMaxErrorOutput = 64 * 1024;

[[noreturn]] void ThrowErrno(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { Reset(); }
  int get() const { return fd_; }
  void Reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  void Dup(int from, int to) {
    if (int error = posix_spawn_file_actions_adddup2(&actions_, from, to)) {
      ThrowErrno(error, "posix_spawn_file_actions_adddup2");
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
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  ~SpawnAttributes() { posix_spawnattr_destroy(&attributes_); }
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

// Kills and reaps unless reaped: no zombie and no stray child when something throws.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    Wait();
  }
  int Wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_;
};

void Pipe(Fd& read_end, Fd& write_end) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) < 0) ThrowErrno(errno, "pipe2");
  read_end.Reset(fds[0]);
  write_end.Reset(fds[1]);
}

}  // namespace

ChildExit RunChild(const std::vector<std::string>& argv, std::span<const std::string_view> input,
                   const std::function<void(std::string_view)>& on_output) {
  // stdin is a socket and not a pipe: MSG_NOSIGNAL then spares us a SIGPIPE when the child ends
  // without having read everything.
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
    ThrowErrno(errno, "socketpair");
  }
  Fd in(sockets[0]);
  Fd child_in(sockets[1]);
  Fd out;
  Fd child_out;
  Fd err;
  Fd child_err;
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
    ThrowErrno(error, "start " + argv[0]);
  }
  Child child(pid);
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

  ChildExit result;
  std::vector<char> buffer(256 * 1024);
  bool out_open = true;
  bool err_open = true;
  while (out_open || err_open) {
    pollfd fds[3] = {{out_open ? out.get() : -1, POLLIN, 0},
                     {err_open ? err.get() : -1, POLLIN, 0},
                     {in.get(), POLLOUT, 0}};
    if (::poll(fds, 3, -1) < 0) {
      if (errno == EINTR) continue;
      ThrowErrno(errno, "poll " + argv[0]);
    }
    for (int i = 0; i < 2; ++i) {
      if (fds[i].revents == 0) continue;
      ssize_t count = ::read(fds[i].fd, buffer.data(), buffer.size());
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (count < 0) ThrowErrno(errno, "read from " + argv[0]);
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
        ThrowErrno(errno, "write to " + argv[0]);
      }
    }
  }
  result.status = child.Wait();
  return result;
}

}  // namespace pointsman::agent
