#include "node-agent/userspace/forwarder/launcher.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/spawn.h"
#include "node-agent/userspace/forwarder/unix_socket.h"

namespace pointsman::forwarder {
namespace {

// The arguments are a path, some numbers and a version.
constexpr size_t kMaxMessage = 8192;
// How long the peer may take to send the message after it has connected.
constexpr timeval kMessageTimeout{2, 0};
constexpr std::chrono::milliseconds kRetry{50};

// A socket connected to the launcher at `path`; not valid: errno.
UniqueFd ConnectedTo(const std::string& path) {
  UniqueFd socket = UnixSocket(SOCK_SEQPACKET);
  if (!Connect(socket, path)) {
    const int error = errno;
    socket.Reset();
    errno = error;
  }
  return socket;
}

struct Message {
  std::vector<std::string> arguments;
  UniqueFd ready;
};

// For sendmsg(2) and recvmsg(2): one part, and room for one file descriptor.
class Envelope {
 public:
  Envelope(char* text, size_t size) : part_{text, size} {
    header.msg_iov = &part_;
    header.msg_iovlen = 1;
    header.msg_control = control_.bytes;
    header.msg_controllen = sizeof control_.bytes;
  }
  Envelope(const Envelope&) = delete;
  Envelope& operator=(const Envelope&) = delete;

  msghdr header{};

 private:
  iovec part_;
  union {
    cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control_{};
};

// Throws std::runtime_error.
Message Receive(const UniqueFd& socket) {
  std::array<char, kMaxMessage> text;
  Envelope envelope(text.data(), text.size());
  msghdr& header = envelope.header;
  const ssize_t size = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC);
  if (size < 0) ThrowErrno("receive");
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
  if (const UniqueFd other = ConnectedTo(path_)) {
    errno = EADDRINUSE;
    ThrowErrno(path_);
  } else if (errno == ECONNREFUSED) {
    ::unlink(path_.c_str());
  }
  socket_ = UnixSocket(SOCK_SEQPACKET | SOCK_NONBLOCK);
  Listen(socket_, path_, 4);

  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGCHLD})
    sigaddset(&set, signal);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0)
    throw std::system_error(error, std::generic_category(), "pthread_sigmask");
  signals_.Reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) ThrowErrno("signalfd");
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
      ThrowErrno("poll");
    }
    if (items[0].revents != 0 && !TakeSignal() && !ending) {
      ending = true;
      ::unlink(path_.c_str());
      socket_.Reset();
      spdlog::info("will exit once {} forwarders have", children_.size());
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
  UniqueFd peer(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return;
  if (!IsThisUser(Peer(peer))) {
    spdlog::warn("rejected a peer with another uid");
    return;
  }
  ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &kMessageTimeout, sizeof kMessageTimeout);
  UniqueFd ready;
  try {
    Message message = Receive(peer);
    ready = std::move(message.ready);
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    const pid_t pid = Spawn(self, std::move(message.arguments), ready.get());
    children_.insert(pid);
    spdlog::info("started forwarder {}", pid);
  } catch (const std::exception& error) {
    spdlog::error("could not start a forwarder: {}", error.what());
    const std::string_view text = error.what();
    if (ready && ::write(ready.get(), text.data(), text.size()) < 0)
      spdlog::warn("the agent is no longer listening");
  }
}

void Launch(const std::string& path, const std::vector<std::string>& arguments, int ready,
            std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  UniqueFd socket;
  while (!(socket = ConnectedTo(path))) {
    if ((errno != ENOENT && errno != ECONNREFUSED) || std::chrono::steady_clock::now() >= deadline)
      ThrowErrno("the launcher of forwarders at " + path);
    // The launcher's container starts at about the same time as the agent's.
    ::poll(nullptr, 0, static_cast<int>(kRetry.count()));
  }
  if (!IsThisUser(Peer(socket))) {
    errno = EPERM;
    ThrowErrno("the launcher of forwarders at " + path + " is another user's");
  }
  std::string text;
  for (const std::string& argument : arguments)
    text += argument + '\0';
  Envelope envelope(text.data(), text.size());
  msghdr& header = envelope.header;
  cmsghdr* const item = CMSG_FIRSTHDR(&header);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(item), &ready, sizeof ready);
  if (::sendmsg(socket.get(), &header, MSG_NOSIGNAL) < 0)
    ThrowErrno("the launcher of forwarders at " + path);
}

}  // namespace pointsman::forwarder
