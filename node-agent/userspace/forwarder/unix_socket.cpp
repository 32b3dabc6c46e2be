#include "node-agent/userspace/forwarder/unix_socket.h"

#include <cerrno>
#include <sys/stat.h>
#include <sys/un.h>
#include <system_error>

#include <unistd.h>

namespace pointsman::forwarder {
namespace {

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
  path.copy(address.sun_path, path.size());
  return address;
}

}  // namespace

Fd UnixSocket(int type) {
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket) Throw("socket");
  return socket;
}

bool Connect(const Fd& socket, const std::string& path) {
  const sockaddr_un address = Address(path);
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

void Listen(const Fd& socket, const std::string& path, int backlog) {
  const sockaddr_un address = Address(path);
  // Nobody else may come between bind and chmod.
  const mode_t before = ::umask(0177);
  const int bound =
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(socket.get(), backlog) != 0) Throw(path);
}

std::optional<ucred> Peer(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return peer;
}

bool IsThisUser(const std::optional<ucred>& peer) {
  return peer && peer->uid == ::geteuid();
}

}  // namespace pointsman::forwarder
