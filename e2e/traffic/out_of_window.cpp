#include "e2e/traffic/out_of_window.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <poll.h>

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kFarAway = 1U << 30;

std::system_error Error(const char* what) {
  return {errno, std::generic_category(), what};
}

void SetPort(Endpoint& endpoint, std::uint16_t port) {
  if (endpoint.family() == AF_INET) {
    reinterpret_cast<sockaddr_in*>(&endpoint.address)->sin_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in6*>(&endpoint.address)->sin6_port = htons(port);
  }
}

std::uint16_t PortOf(const Endpoint& endpoint) {
  return ntohs(endpoint.family() == AF_INET
                   ? reinterpret_cast<const sockaddr_in*>(&endpoint.address)->sin_port
                   : reinterpret_cast<const sockaddr_in6*>(&endpoint.address)->sin6_port);
}

void Append(std::vector<std::uint8_t>& bytes, const void* data, size_t size) {
  const auto* begin = static_cast<const std::uint8_t*>(data);
  bytes.insert(bytes.end(), begin, begin + size);
}

void AppendAddress(std::vector<std::uint8_t>& bytes, const Endpoint& endpoint) {
  if (endpoint.family() == AF_INET) {
    Append(bytes, &reinterpret_cast<const sockaddr_in*>(&endpoint.address)->sin_addr,
           sizeof(in_addr));
  } else {
    Append(bytes, &reinterpret_cast<const sockaddr_in6*>(&endpoint.address)->sin6_addr,
           sizeof(in6_addr));
  }
}

// RFC 1071, with the pseudo header of RFC 9293; one of IPv6 (RFC 8200) has the same sum.
std::uint16_t Checksum(const Endpoint& from, const Endpoint& to, const tcphdr& header) {
  std::vector<std::uint8_t> bytes;
  AppendAddress(bytes, from);
  AppendAddress(bytes, to);
  const std::uint16_t rest[] = {htons(IPPROTO_TCP), htons(sizeof header)};
  Append(bytes, rest, sizeof rest);
  Append(bytes, &header, sizeof header);
  std::uint32_t sum = 0;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2)
    sum += static_cast<std::uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  while (sum >> 16 != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  return htons(static_cast<std::uint16_t>(~sum));
}

struct Segment {
  Endpoint peer;
  tcphdr header{};
  std::uint32_t payload = 0;
};

// nullopt: what was received is not from that port to that one.
std::optional<Segment> Receive(int fd, std::uint16_t local_port, std::uint16_t peer_port) {
  std::array<std::uint8_t, 65536> buffer{};
  Segment segment;
  segment.peer.size = sizeof segment.peer.address;
  const ssize_t received =
      recvfrom(fd, buffer.data(), buffer.size(), 0,
               reinterpret_cast<sockaddr*>(&segment.peer.address), &segment.peer.size);
  if (received < 0) throw Error("receive a segment");
  const auto size = static_cast<size_t>(received);
  // A raw socket of IPv4 gets the IP header too.
  const size_t ip_header = segment.peer.family() == AF_INET ? (buffer[0] & 0xfU) * 4 : 0;
  if (size < ip_header + sizeof segment.header) return std::nullopt;
  std::memcpy(&segment.header, buffer.data() + ip_header, sizeof segment.header);
  if (ntohs(segment.header.dest) != local_port || ntohs(segment.header.source) != peer_port)
    return std::nullopt;
  segment.payload = static_cast<std::uint32_t>(size - ip_header - segment.header.doff * 4UL);
  SetPort(segment.peer, peer_port);
  return segment;
}

void Answer(int fd, const Endpoint& local, const Segment& segment) {
  tcphdr header{};
  header.source = segment.header.dest;
  header.dest = segment.header.source;
  header.seq = htonl(ntohl(segment.header.ack_seq) + kFarAway);
  header.ack_seq = htonl(ntohl(segment.header.seq) + segment.payload);
  header.doff = sizeof header / 4;
  header.ack = 1;
  header.window = htons(1024);
  header.check = Checksum(local, segment.peer, header);
  Endpoint peer = segment.peer;
  SetPort(peer, 0);  // a raw socket of IPv6 refuses any other
  if (sendto(fd, &header, sizeof header, 0, reinterpret_cast<const sockaddr*>(&peer.address),
             peer.size) < 0)
    throw Error("send a segment");
}

}  // namespace

void SendOutOfWindow(const Endpoint& local, std::uint16_t peer_port, int count,
                     std::chrono::milliseconds timeout) {
  const UniqueFd raw(socket(local.family(), SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!raw.valid()) throw Error("open a raw socket");
  Endpoint bound = local;
  SetPort(bound, 0);
  if (bind(raw.get(), reinterpret_cast<const sockaddr*>(&bound.address), bound.size) != 0)
    throw Error("bind a raw socket");
  const auto deadline = Clock::now() + timeout;
  for (int sent = 0; sent < count;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait{.fd = raw.get(), .events = POLLIN, .revents = 0};
    if (left <= 0 || poll(&wait, 1, static_cast<int>(left)) == 0)
      throw std::runtime_error(fmt::format("no segment from port {} came to {} in {} ms", peer_port,
                                           local.ToString(), timeout.count()));
    const auto segment = Receive(raw.get(), PortOf(local), peer_port);
    // One that opens or ends a connection has other numbers to acknowledge.
    if (!segment || segment->header.syn != 0 || segment->header.fin != 0 ||
        segment->header.rst != 0)
      continue;
    Answer(raw.get(), local, *segment);
    ++sent;
  }
}

}  // namespace pointsman::e2e
