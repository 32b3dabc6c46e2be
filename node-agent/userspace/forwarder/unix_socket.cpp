#include "node-agent/userspace/forwarder/unix_socket.h"

#include <cerrno>
#include <sys/stat.h>
#include <sys/un.h>
#include <system_error>

#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"

namespace pointsman::forwarder {
namespace {

sockaddr_un Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    ThrowErrno(path);
  }
  path.copy(address.sun_path, path.size());
  return address;
}

}  // namespace

UniqueFd UnixSocket(int type) {
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket) ThrowErrno("socket");
  return socket;
}

bool Connect(const UniqueFd& socket, const std::string& path) {
  const sockaddr_un address = Address(path);
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

void Listen(const UniqueFd& socket, const std::string& path, int backlog) {
  const sockaddr_un address = Address(path);
  // Nobody else may come between bind and chmod.
  const mode_t before = ::umask(0177);
  const int bound =
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(socket.get(), backlog) != 0) ThrowErrno(path);
}

std::optional<ucred> Peer(const UniqueFd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return peer;
}

bool IsThisUser(const std::optional<ucred>& peer) {
  return peer && peer->uid == ::geteuid();
}

}  // namespace pointsman::forwarder
