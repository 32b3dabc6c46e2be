// Addresses and sockets, IPv4 and IPv6, for the traffic program.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <utility>

#include "base/unique_fd.h"

namespace pointsman::e2e {

enum class Protocol { kTcp, kUdp, kSctp };  // kSctp: one-to-one style, used as TCP is
const char* Name(Protocol protocol);

struct Endpoint {
  sockaddr_storage address{};
  socklen_t size = 0;

  // "10.0.0.1:80", "[fd00::1]:80". An IPv4-mapped IPv6 address is written as IPv4.
  std::string ToString() const;
  int family() const { return address.ss_family; }
};

// Takes "10.0.0.1:80" and "[fd00::1]:80"; no names. Throws std::invalid_argument naming the text.
Endpoint ParseEndpoint(std::string_view text);
Endpoint MakeEndpoint(std::string_view ip, std::uint16_t port);

// Non-blocking, close-on-exec. `from` (an IP or "") is bound without taking a port, so the kernel
// still picks the port when it knows the whole 5-tuple, unless `from_port` says which one. Throws
// std::system_error.
UniqueFd OpenSocket(Protocol protocol, int family, std::string_view from,
                    std::uint16_t from_port = 0);

// A bound socket that listens (TCP) or receives (UDP, with the local address of each datagram).
UniqueFd Listen(Protocol protocol, const Endpoint& endpoint);

// How a failed call on a connection is named in reports: refused, reset, timeout, unreachable,
// no-local-port, not-permitted (a DROP rule in OUTPUT met a datagram), or the errno's own text.
std::string FailureKind(int error);

}  // namespace pointsman::e2e
