#include "node-agent/testing/named_servers.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <poll.h>

#include "base/throw_errno.h"
#include "node-agent/testing/test_address.h"

namespace pointsman::agent::testing {

NamedServers::NamedServers() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) ThrowErrno("eventfd");
  thread_ = std::thread([this] { Run(); });
}

NamedServers::~NamedServers() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  eventfd_write(wake_.get(), 1);
  thread_.join();
}

void NamedServers::Serve(const NetNamespace& where, const std::string& name, const std::string& ip,
                         uint16_t port) {
  Bind(where, name, ip, port, SOCK_STREAM, 0);
  Bind(where, name, ip, port, SOCK_DGRAM, 0);
}

void NamedServers::ServeSctp(const NetNamespace& where, const std::string& name,
                             const std::string& ip, uint16_t port) {
  Bind(where, name, ip, port, SOCK_STREAM, IPPROTO_SCTP);
}

void NamedServers::Bind(const NetNamespace& where, const std::string& name, const std::string& ip,
                        uint16_t port, int type, int protocol) {
  const TestAddress address(ip, port);
  const bool stream = type == SOCK_STREAM;
  UniqueFd fd = SocketIn(where, address.family(), type | SOCK_NONBLOCK, protocol);
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), address.get(), address.size()) < 0) ThrowErrno("bind " + name + " " + ip);
  if (stream && listen(fd.get(), 1024) < 0) ThrowErrno("listen");
  {
    const std::lock_guard lock(mutex_);
    sockets_.push_back({name, std::move(fd), stream, stream});
  }
  eventfd_write(wake_.get(), 1);
}

void NamedServers::Stop(const std::string& name) {
  const std::lock_guard lock(mutex_);
  std::erase_if(sockets_, [&](const Socket& socket) { return socket.name == name; });
  eventfd_write(wake_.get(), 1);
}

void NamedServers::Run() {
  while (true) {
    std::vector<pollfd> items{{wake_.get(), POLLIN, 0}};
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      for (const Socket& socket : sockets_)
        items.push_back({socket.fd.get(), POLLIN, 0});
    }
    if (poll(items.data(), items.size(), -1) < 0 && errno != EINTR) return;
    const std::lock_guard lock(mutex_);
    for (const pollfd& item : items) {
      if (item.revents == 0) continue;
      if (item.fd == wake_.get()) {
        eventfd_t count = 0;
        eventfd_read(wake_.get(), &count);
      } else {
        Look(item.fd);
      }
    }
  }
}

void NamedServers::Look(int fd) {
  const auto found = std::find_if(sockets_.begin(), sockets_.end(),
                                  [&](const Socket& socket) { return socket.fd.get() == fd; });
  if (found == sockets_.end()) return;  // closed meanwhile
  const Socket& socket = *found;
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  auto* peer_address = reinterpret_cast<sockaddr*>(&peer);
  if (socket.listening) {
    UniqueFd connection(accept4(fd, peer_address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (connection)
      sockets_.push_back({std::string(socket.name), std::move(connection), true, false});
    return;
  }
  std::array<char, 4096> buffer{};
  const ssize_t size = recvfrom(fd, buffer.data(), buffer.size(), 0, peer_address, &length);
  if (size < 0 && errno == EAGAIN) return;
  if (socket.stream && size <= 0) {
    sockets_.erase(found);
    return;
  }
  if (size < 0) return;
  if (socket.stream) {
    length = sizeof peer;
    if (getpeername(fd, peer_address, &length) < 0) return;
  }
  const std::string answer = socket.name + " " + AddressText(peer) + "\n";
  sendto(fd, answer.data(), answer.size(), MSG_NOSIGNAL, socket.stream ? nullptr : peer_address,
         socket.stream ? 0 : length);
}

}  // namespace pointsman::agent::testing
