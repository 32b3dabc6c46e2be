#include "node-agent/userspace/forwarder/launcher.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "node-agent/userspace/forwarder/spawn.h"

namespace pointsman::forwarder {
namespace {

// The arguments are a path, some numbers and a version.
constexpr size_t kMaxMessage = 8192;
// How long the peer may take to send the message after it has connected.
constexpr timeval kMessageTimeout{2, 0};
constexpr std::chrono::milliseconds kRetry{50};

[[noreturn]] void Throw(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

sockaddr_un Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    Throw(path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// A socket connected to the launcher at `path`; not valid: errno.
Fd Connect(const std::string& path) {
  const sockaddr_un address = Address(path);
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) Throw("socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    socket.Reset();
    errno = error;
  }
  return socket;
}

bool SameUser(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == ::geteuid();
}

struct Message {
  std::vector<std::string> arguments;
  Fd ready;
};

// Room for one file descriptor.
union Control {
  cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int))];
};

// Throws std::runtime_error.
Message Receive(const Fd& socket) {
  std::array<char, kMaxMessage> text;
  iovec part{text.data(), text.size()};
  Control control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  const ssize_t size = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC);
  if (size < 0) Throw("receive");
  Message message;
  if (const cmsghdr* item = CMSG_FIRSTHDR(&header);
      item != nullptr && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS &&
      item->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(item), sizeof fd);
    message.ready.Reset(fd);
  }
  if (!message.ready) throw std::runtime_error("a message without a file descriptor");
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    throw std::runtime_error("a message that is too long");
  if (size == 0 || text[static_cast<size_t>(size) - 1] != '\0')
    throw std::runtime_error("a message without an end");
  for (const char* at = text.data(); at < text.data() + size;) {
    message.arguments.emplace_back(at);
    at += message.arguments.back().size() + 1;
  }
  return message;
}

}  // namespace

Launcher::Launcher(std::string path) : path_(std::move(path)) {
  const sockaddr_un address = Address(path_);
  if (const Fd other = Connect(path_)) {
    errno = EADDRINUSE;
    Throw(path_);
  } else if (errno == ECONNREFUSED) {
    ::unlink(path_.c_str());
  }
  socket_.Reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_) Throw("socket");
  // Nobody else may come between bind and chmod.
  const mode_t before = ::umask(0177);
  const int bound =
      ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(socket_.get(), 4) != 0) Throw(path_);

  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGCHLD})
    sigaddset(&set, signal);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0)
    throw std::system_error(error, std::generic_category(), "pthread_sigmask");
  signals_.Reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) Throw("signalfd");
}

Launcher::~Launcher() {
  if (socket_) ::unlink(path_.c_str());
}

void Launcher::Run() {
  bool ending = false;
  while (!ending || !children_.empty()) {
    std::array<pollfd, 2> items{{{signals_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}}};
    if (::poll(items.data(), items.size(), -1) < 0) {
      if (errno == EINTR) continue;
      Throw("poll");
    }
    if (items[0].revents != 0 && !TakeSignal() && !ending) {
      ending = true;
      ::unlink(path_.c_str());
      socket_.Reset();
      spdlog::info("ending, when {} forwarders have ended", children_.size());
      continue;
    }
    if (items[1].revents != 0) Serve();
  }
}

bool Launcher::TakeSignal() {
  signalfd_siginfo info{};
  if (::read(signals_.get(), &info, sizeof info) != sizeof info) return true;
  // Several children can have ended with one signal; as a container's first process it also gets
  // those of others.
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (children_.erase(pid) == 0) continue;
    if (WIFSIGNALED(status)) {
      spdlog::warn("forwarder {} was ended by signal {}", pid, WTERMSIG(status));
    } else {
      spdlog::info("forwarder {} ended with status {}", pid, WEXITSTATUS(status));
    }
  }
  return info.ssi_signo == SIGCHLD;
}

void Launcher::Serve() {
  Fd peer(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return;
  if (!SameUser(peer)) {
    spdlog::warn("turned away somebody who is not this user");
    return;
  }
  ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &kMessageTimeout, sizeof kMessageTimeout);
  Fd ready;
  try {
    Message message = Receive(peer);
    ready = std::move(message.ready);
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    const pid_t pid = Spawn(self, std::move(message.arguments), ready.get());
    children_.insert(pid);
    spdlog::info("started forwarder {}", pid);
  } catch (const std::exception& error) {
    spdlog::error("no forwarder was started: {}", error.what());
    const std::string_view text = error.what();
    if (ready && ::write(ready.get(), text.data(), text.size()) < 0)
      spdlog::warn("the agent does not listen any more");
  }
}

void Launch(const std::string& path, const std::vector<std::string>& arguments, int ready,
            std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  Fd socket;
  while (!(socket = Connect(path))) {
    if ((errno != ENOENT && errno != ECONNREFUSED) || std::chrono::steady_clock::now() >= deadline)
      Throw("the launcher of forwarders at " + path);
    // The launcher's container starts at about the same time as the agent's.
    ::poll(nullptr, 0, static_cast<int>(kRetry.count()));
  }
  if (!SameUser(socket)) {
    errno = EPERM;
    Throw("the launcher of forwarders at " + path + " is another user's");
  }
  std::string text;
  for (const std::string& argument : arguments)
    text += argument + '\0';
  iovec part{text.data(), text.size()};
  Control control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  cmsghdr* const item = CMSG_FIRSTHDR(&header);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(item), &ready, sizeof ready);
  if (::sendmsg(socket.get(), &header, MSG_NOSIGNAL) < 0)
    Throw("the launcher of forwarders at " + path);
}

}  // namespace pointsman::forwarder
