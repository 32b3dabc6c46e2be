#include "node-agent/userspace/testing/sockets.h"

#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <unordered_map>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"

namespace pointsman::agent::testing {
namespace {

constexpr int kTimeoutSeconds = 20;

UniqueFd Socket(const net::IpAddress& family, int type) {
  UniqueFd fd(::socket(family.is_v4() ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
  if (!fd) ThrowErrno("socket");
  const timeval timeout{kTimeoutSeconds, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  return fd;
}

void Bind(const UniqueFd& socket, const IpPort& at) {
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_storage address = net::ToSocketAddress(at.ip, at.port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
             net::SocketAddressSize(at.ip)) != 0) {
    ThrowErrno("bind " + at.ip.ToString());
  }
}

void Connect(const UniqueFd& socket, const IpPort& to) {
  const sockaddr_storage address = net::ToSocketAddress(to.ip, to.port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                net::SocketAddressSize(to.ip)) != 0) {
    ThrowErrno("connect " + to.ip.ToString());
  }
}

void Wake(const UniqueFd& fd) {
  const uint64_t one = 1;
  if (::write(fd.get(), &one, sizeof one) < 0) ThrowErrno("eventfd");
}

}  // namespace

UniqueFd ConnectTcp(const IpPort& to, const net::IpAddress* from) {
  UniqueFd socket = Socket(to.ip, SOCK_STREAM);
  if (from != nullptr) Bind(socket, {*from, 0});
  Connect(socket, to);
  return socket;
}

UniqueFd ConnectUdp(const IpPort& to) {
  UniqueFd socket = Socket(to.ip, SOCK_DGRAM);
  Connect(socket, to);
  return socket;
}

UniqueFd ListenTcp(const IpPort& at, int backlog) {
  UniqueFd socket = Socket(at.ip, SOCK_STREAM);
  Bind(socket, at);
  if (::listen(socket.get(), backlog) != 0) ThrowErrno("listen");
  return socket;
}

UniqueFd BindUdp(const IpPort& at) {
  UniqueFd socket = Socket(at.ip, SOCK_DGRAM);
  Bind(socket, at);
  return socket;
}

uint16_t PortOf(const UniqueFd& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    ThrowErrno("getsockname");
  }
  return net::FromSocketAddress(address).port;
}

Received ReceiveAll(const UniqueFd& socket) {
  Received received;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t count = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (count < 0) received.error = errno;
    if (count <= 0) return received;
    received.bytes.append(buffer.data(), static_cast<size_t>(count));
  }
}

std::string Receive(const UniqueFd& socket, size_t size) {
  std::string bytes(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t count = ::recv(socket.get(), bytes.data() + have, size - have, 0);
    if (count <= 0) break;
    have += static_cast<size_t>(count);
  }
  bytes.resize(have);
  return bytes;
}

void Send(const UniqueFd& socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0) ThrowErrno("send");
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

void CloseWriting(const UniqueFd& socket) {
  if (::shutdown(socket.get(), SHUT_WR) != 0) ThrowErrno("shutdown");
}

std::string Noise(uint64_t seed, size_t size) {
  std::string bytes;
  bytes.reserve(size + 8);
  // splitmix64
  for (uint64_t state = seed; bytes.size() < size;) {
    state += 0x9e3779b97f4a7c15ULL;
    uint64_t value = state;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    value ^= value >> 31;
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  bytes.resize(size);
  return bytes;
}

EchoServer::EchoServer(const IpPort& at, std::string greeting)
    : listener_(ListenTcp(at)),
      wake_(::eventfd(0, EFD_CLOEXEC)),
      place_{at.ip, PortOf(listener_)},
      greeting_(std::move(greeting)) {
  thread_ = std::thread([this] { Serve(); });
}

EchoServer::~EchoServer() {
  Wake(wake_);
  thread_.join();
}

void EchoServer::Serve() {
  struct Client {
    UniqueFd fd;
    std::string out;
    bool ending = false;
  };
  std::unordered_map<int, Client> clients;
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const auto watch = [&](int operation, int fd, uint32_t events) {
    epoll_event event{.events = events, .data = {.fd = fd}};
    if (::epoll_ctl(epoll.get(), operation, fd, &event) != 0) ThrowErrno("epoll_ctl");
  };
  watch(EPOLL_CTL_ADD, wake_.get(), EPOLLIN);
  watch(EPOLL_CTL_ADD, listener_.get(), EPOLLIN);
  std::array<epoll_event, 64> events;
  std::vector<char> buffer(size_t{256} << 10);
  for (;;) {
    const int count = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == wake_.get()) return;
      if (fd == listener_.get()) {
        const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted < 0) continue;
        clients[accepted] = {UniqueFd(accepted), greeting_};
        watch(EPOLL_CTL_ADD, accepted, EPOLLIN | EPOLLOUT);
        ++connections_;
        continue;
      }
      Client& client = clients.at(fd);
      bool gone = false;
      if (client.out.empty() && !client.ending) {
        const ssize_t size = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (size > 0) client.out.assign(buffer.data(), static_cast<size_t>(size));
        if (size == 0) client.ending = true;
        if (size < 0 && errno != EAGAIN) gone = true;
      }
      while (!client.out.empty() && !gone) {
        const ssize_t size =
            ::send(fd, client.out.data(), client.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size < 0) {
          gone = errno != EAGAIN;
          break;
        }
        client.out.erase(0, static_cast<size_t>(size));
      }
      if (gone || (client.ending && client.out.empty())) {
        // Not left to the closing: a child between fork and exec keeps the socket, and its events.
        watch(EPOLL_CTL_DEL, fd, 0);
        clients.erase(fd);
        --connections_;
      } else {
        watch(EPOLL_CTL_MOD, fd, client.out.empty() ? EPOLLIN : EPOLLOUT);
      }
    }
  }
}

UdpServer::UdpServer(const IpPort& at, std::string name, bool silent)
    : socket_(BindUdp(at)),
      wake_(::eventfd(0, EFD_CLOEXEC)),
      place_{at.ip, PortOf(socket_)},
      name_(std::move(name)),
      silent_(silent) {
  thread_ = std::thread([this] { Serve(); });
}

UdpServer::~UdpServer() {
  Wake(wake_);
  thread_.join();
}

void UdpServer::Serve() {
  std::vector<char> buffer(65536);
  for (;;) {
    std::array<pollfd, 2> items{{{wake_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}}};
    ::poll(items.data(), items.size(), -1);
    if (items[0].revents != 0) return;
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const ssize_t count = ::recvfrom(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                     reinterpret_cast<sockaddr*>(&peer), &size);
    if (count < 0) continue;
    ++received_;
    if (silent_) continue;
    const std::string answer = name_ + ":" + std::string(buffer.data(), static_cast<size_t>(count));
    ::sendto(socket_.get(), answer.data(), answer.size(), 0,
             reinterpret_cast<const sockaddr*>(&peer), size);
  }
}

BlackHole::BlackHole(const std::string& ip)
    : listener_(ListenTcp(At(ip, 0), 0)), place_(At(ip, PortOf(listener_))) {
  // The kernel queues one more than it was told to.
  for (int i = 0; i < 4; ++i) {
    UniqueFd socket = Socket(place_.ip, SOCK_STREAM | SOCK_NONBLOCK);
    const sockaddr_storage address = net::ToSocketAddress(place_.ip, place_.port);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                  net::SocketAddressSize(place_.ip)) != 0 &&
        errno != EINPROGRESS) {
      ThrowErrno("connect");
    }
    fill_.push_back(std::move(socket));
  }
}

}  // namespace pointsman::agent::testing
