// The beginning of a TCP connection as one packet shows it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kube/net/socket_address.h"

namespace pointsman::agent {

struct Segment {
  enum class Kind : uint8_t { kSyn, kSynAck, kReset };
  Kind kind = Kind::kSyn;
  net::IpPort source;
  net::IpPort destination;
};

// Of a packet that may be anything: no TCP, a fragment, cut short, made up. `packet` begins with
// the IP header; IPv6 without extension headers only, which TCP to a Service never has.
std::optional<Segment> ParseSegment(const uint8_t* packet, size_t size);

}  // namespace pointsman::agent
