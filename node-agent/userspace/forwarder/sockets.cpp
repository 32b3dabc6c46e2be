#include "node-agent/userspace/forwarder/sockets.h"

#include <algorithm>
#include <cerrno>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/address_plan.h"

namespace pointsman::forwarder {
namespace {

// A dead client or backend is noticed after 2 minutes.
constexpr int kKeepAliveIdle = 60;
constexpr int kKeepAliveInterval = 15;
constexpr int kKeepAliveCount = 4;
// The kernel cuts it at net.core.somaxconn.
constexpr int kBacklog = 65535;
// Datagrams that wait while the loop is busy elsewhere.
constexpr int kUdpBuffer = 4 << 20;

bool Set(int fd, int level, int option, int value) {
  return ::setsockopt(fd, level, option, &value, sizeof value) == 0;
}

void SetTcpOptions(int fd) {
  // A failure leaves the kernel's defaults, with which everything works too.
  Set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  Set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  Set(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdle);
  Set(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveInterval);
  Set(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveCount);
}

// Throws, but for EADDRINUSE: false.
bool Listen(UniqueFd& socket, net::Family family, bool udp, uint16_t port) {
  const bool v4 = family == net::Family::kIPv4;
  socket.Reset(::socket(v4 ? AF_INET : AF_INET6,
                        (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) {
    if (!v4 && errno == EAFNOSUPPORT) return true;
    ThrowErrno("socket");
  }
  const int fd = socket.get();
  if (!v4 && !Set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) ThrowErrno("IPV6_V6ONLY");
  if (udp) {
    // Answers carry a slot's address, which is no interface's.
    if (v4 ? !Set(fd, IPPROTO_IP, IP_PKTINFO, 1) : !Set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)) {
      ThrowErrno("IP_PKTINFO");
    }
    if (v4 ? !Set(fd, IPPROTO_IP, IP_FREEBIND, 1) : !Set(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1)) {
      ThrowErrno("IP_FREEBIND");
    }
    if (!Set(fd, SOL_SOCKET, SO_RCVBUFFORCE, kUdpBuffer)) {
      Set(fd, SOL_SOCKET, SO_RCVBUF, kUdpBuffer);
    }
  } else {
    // A successor on the same port meets its predecessor's connections in TIME_WAIT.
    if (!Set(fd, SOL_SOCKET, SO_REUSEADDR, 1)) ThrowErrno("SO_REUSEADDR");
    SetTcpOptions(fd);  // accepted sockets inherit them
  }
  const net::IpAddress any = v4 ? net::IpAddress() : net::IpAddress::Parse("::").value();
  const sockaddr_storage address = ToSocketAddress(any, port);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), SocketAddressSize(any)) != 0) {
    if (errno == EADDRINUSE) return false;
    if (!v4 && errno == EADDRNOTAVAIL) {  // IPv6 is disabled by sysctl
      socket.Reset();
      return true;
    }
    ThrowErrno("bind");
  }
  if (!udp && ::listen(fd, kBacklog) != 0) {
    if (errno == EADDRINUSE) return false;
    ThrowErrno("listen");
  }
  return true;
}

uint16_t PortOf(const UniqueFd& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    ThrowErrno("getsockname");
  }
  return FromSocketAddress(address).port;
}

bool TryListen(Listeners& listeners, uint16_t port) {
  if (!Listen(listeners.tcp_v4, net::Family::kIPv4, false, port)) return false;
  listeners.port = PortOf(listeners.tcp_v4);
  return Listen(listeners.udp_v4, net::Family::kIPv4, true, listeners.port) &&
         Listen(listeners.tcp_v6, net::Family::kIPv6, false, listeners.port) &&
         Listen(listeners.udp_v6, net::Family::kIPv6, true, listeners.port);
}

}  // namespace

Listeners OpenListeners(uint16_t wanted, PortRange range) {
  // The kernel's choice for TCP may be taken in UDP.
  constexpr int kTriesAtRandom = 50;
  if (wanted != 0) {
    Listeners listeners;
    if (TryListen(listeners, wanted)) return listeners;
  }
  if (range.first == 0) {
    for (int i = 0; i < kTriesAtRandom; ++i) {
      Listeners listeners;
      if (TryListen(listeners, 0)) return listeners;
    }
    errno = EADDRINUSE;
    ThrowErrno("no port is free for TCP and UDP");
  }
  for (uint32_t port = range.first; port <= range.last; ++port) {
    Listeners listeners;
    if (TryListen(listeners, static_cast<uint16_t>(port))) return listeners;
  }
  throw std::system_error(EADDRINUSE, std::generic_category(),
                          fmt::format("portRange {}-{}: no port of it is free for TCP and UDP",
                                      range.first, range.last));
}

UniqueFd OpenBackendSocket(net::Family family, bool udp, uint32_t mark) {
  UniqueFd fd(::socket(family == net::Family::kIPv4 ? AF_INET : AF_INET6,
                       (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fd;
  if (mark != 0 && ::setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) {
    const int error = errno;
    fd.Reset();
    errno = error;
    return fd;
  }
  if (!udp) SetTcpOptions(fd.get());
  return fd;
}

void CloseWithReset(UniqueFd fd) {
  const linger now{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

uint64_t RaiseFileLimit(uint64_t most) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) ThrowErrno("getrlimit");
  const rlimit all{most, most};
  // Above the hard limit only with CAP_SYS_RESOURCE.
  if (limit.rlim_cur < most && ::setrlimit(RLIMIT_NOFILE, &all) != 0) {
    const rlimit up_to_hard{std::min<rlim_t>(limit.rlim_max, most), limit.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &up_to_hard);
  } else if (limit.rlim_cur > most) {
    const rlimit less{most, limit.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &less);
  }
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) ThrowErrno("getrlimit");
  return limit.rlim_cur;
}

void DropCapabilities(std::initializer_list<int> keep) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) ThrowErrno("capget");
  for (int word = 0; word < 2; ++word) {
    uint32_t kept = 0;
    for (int capability : keep) {
      if (capability / 32 == word) kept |= 1U << (capability % 32);
    }
    data[word].effective = data[word].permitted = data[word].permitted & kept;
    data[word].inheritable = 0;
  }
  if (::syscall(SYS_capset, &header, data) != 0) ThrowErrno("capset");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ThrowErrno("PR_SET_NO_NEW_PRIVS");
}

}  // namespace pointsman::forwarder
