// Where the answers of Services' endpoints come from. A packet that connection tracking finds
// invalid belongs to no connection any more, so that whether its NAT would have to be undone can
// only be told by its source.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// One endpoint each would be as much as all the rest of a dataplane; what is in a block of 256
// addresses with the same port is taken together. Nodes' pod CIDRs are that large or larger, so
// that there are about as many blocks as nodes.
struct ReplySource {
  net::IpPrefix block;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
  auto operator<=>(const ReplySource&) const = default;
};

// Bits of an address that a block is made of.
constexpr uint8_t ReplyBlockLength(net::Family family) {
  return family == net::Family::kIPv4 ? 24 : 120;
}

// Each source of the entry's endpoints, also of those that keep only the connections they have.
// May give the same one several times.
void ForEachReplySource(const ServicePortEntry& entry,
                        const std::function<void(const ReplySource&)>& each);

}  // namespace pointsman::agent
