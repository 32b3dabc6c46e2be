#include "e2e/traffic/socket.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdexcept>
#include <system_error>

#include <unistd.h>

namespace pointsman::e2e {

const char* Name(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "tcp";
    case Protocol::kUdp:
      return "udp";
    case Protocol::kSctp:
      return "sctp";
  }
  return "";
}

std::string Endpoint::ToString() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
    inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(v4->sin_port));
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
  const std::string port = std::to_string(ntohs(v6->sin6_port));
  if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
    inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text.data(), text.size());
    return std::string(text.data()) + ":" + port;
  }
  inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
  return "[" + std::string(text.data()) + "]:" + port;
}

Endpoint MakeEndpoint(std::string_view ip, std::uint16_t port) {
  const std::string text(ip);
  Endpoint endpoint;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&endpoint.address);
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    endpoint.size = sizeof *v4;
    return endpoint;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&endpoint.address);
  if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    endpoint.size = sizeof *v6;
    return endpoint;
  }
  throw std::invalid_argument("'" + text + "' is not an IP address");
}

Endpoint ParseEndpoint(std::string_view text) {
  const auto colon = text.rfind(':');
  std::uint16_t port = 0;
  if (colon == std::string_view::npos || colon + 1 == text.size() ||
      std::from_chars(text.data() + colon + 1, text.data() + text.size(), port).ptr !=
          text.data() + text.size() ||
      port == 0) {
    throw std::invalid_argument("'" + std::string(text) + "' is not IP:PORT");
  }
  std::string_view ip = text.substr(0, colon);
  if (ip.size() > 2 && ip.front() == '[' && ip.back() == ']') ip = ip.substr(1, ip.size() - 2);
  return MakeEndpoint(ip, port);
}

UniqueFd OpenSocket(Protocol protocol, int family, std::string_view from, std::uint16_t from_port) {
  UniqueFd fd(
      socket(family,
             (protocol == Protocol::kUdp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC,
             protocol == Protocol::kSctp ? IPPROTO_SCTP : 0));
  if (!fd) throw std::system_error(errno, std::generic_category(), "socket");
  const int on = 1;
  if (protocol == Protocol::kTcp) setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (!from.empty() || from_port != 0) {
    if (from_port != 0) {
      setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    } else {
      setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    }
    const std::string_view any = family == AF_INET ? "0.0.0.0" : "::";
    const Endpoint local = MakeEndpoint(from.empty() ? any : from, from_port);
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&local.address), local.size) != 0)
      throw std::system_error(errno, std::generic_category(), "bind to " + local.ToString());
  }
  return fd;
}

UniqueFd Listen(Protocol protocol, const Endpoint& endpoint) {
  UniqueFd fd = OpenSocket(protocol, endpoint.family(), "");
  const int on = 1;
  if (protocol != Protocol::kUdp) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.size) != 0)
    throw std::system_error(errno, std::generic_category(), "bind to " + endpoint.ToString());
  if (protocol != Protocol::kUdp) {
    if (listen(fd.get(), 4096) != 0)
      throw std::system_error(errno, std::generic_category(), "listen on " + endpoint.ToString());
  } else {
    const bool v4 = endpoint.family() == AF_INET;
    const int result = v4 ? setsockopt(fd.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on)
                          : setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    if (result != 0) throw std::system_error(errno, std::generic_category(), "setsockopt PKTINFO");
    const int bytes = 4 << 20;  // bursts of thousands of requests; capped by net.core.rmem_max
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  }
  return fd;
}

std::string FailureKind(int error) {
  switch (error) {
    case ECONNREFUSED:
      return "refused";
    case ECONNRESET:
    case EPIPE:
      return "reset";
    case ETIMEDOUT:
      return "timeout";
    case EHOSTUNREACH:
    case ENETUNREACH:
      return "unreachable";
    case EPERM:
      return "not-permitted";
    case EADDRNOTAVAIL:
      return "no-local-port";
    default:
      return std::generic_category().message(error);
  }
}

}  // namespace pointsman::e2e
