#include "node-agent/traffic/segment.h"

#include <netinet/in.h>

namespace pointsman::agent {
namespace {

constexpr size_t kTcpPortsAndFlags = 14;  // of a TCP header: as far as its flags
constexpr uint8_t kSynFlag = 0x02;
constexpr uint8_t kRstFlag = 0x04;
constexpr uint8_t kAckFlag = 0x10;

uint16_t NetworkShort(const uint8_t* at) {
  return static_cast<uint16_t>((at[0] << 8) | at[1]);
}

std::optional<Segment::Kind> KindOf(uint8_t flags) {
  if ((flags & kRstFlag) != 0) return Segment::Kind::kReset;
  if ((flags & kSynFlag) == 0) return std::nullopt;
  return (flags & kAckFlag) != 0 ? Segment::Kind::kSynAck : Segment::Kind::kSyn;
}

}  // namespace

std::optional<Segment> ParseSegment(const uint8_t* packet, size_t size) {
  constexpr size_t kIpv4Header = 20;
  constexpr size_t kIpv6Header = 40;
  if (size < kIpv4Header) return std::nullopt;
  Segment segment;
  size_t tcp = 0;
  if ((packet[0] >> 4) == 4) {
    tcp = size_t{4} * (packet[0] & 0xf);
    const bool first_fragment = (NetworkShort(packet + 6) & 0x1fff) == 0;
    if (tcp < kIpv4Header || packet[9] != IPPROTO_TCP || !first_fragment) return std::nullopt;
    segment.source.ip = net::IpAddress::FromBytes(packet + 12, 4);
    segment.destination.ip = net::IpAddress::FromBytes(packet + 16, 4);
  } else if ((packet[0] >> 4) == 6 && size >= kIpv6Header && packet[6] == IPPROTO_TCP) {
    tcp = kIpv6Header;
    segment.source.ip = net::IpAddress::FromBytes(packet + 8, 16);
    segment.destination.ip = net::IpAddress::FromBytes(packet + 24, 16);
  } else {
    return std::nullopt;
  }
  if (size < tcp + kTcpPortsAndFlags) return std::nullopt;
  const auto kind = KindOf(packet[tcp + 13]);
  if (!kind) return std::nullopt;
  segment.kind = *kind;
  segment.source.port = NetworkShort(packet + tcp);
  segment.destination.port = NetworkShort(packet + tcp + 2);
  return segment;
}

}  // namespace pointsman::agent
