#include "node-agent/iptables/chain_names.h"

#include <fmt/format.h>
#include <openssl/sha.h>

namespace pointsman::agent {

uint64_t NameHash(std::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  uint64_t hash = 0;
  for (int i = 0; i < 8; ++i)
    hash = hash << 8 | digest[i];
  return hash >> 4;
}

uint64_t ServiceHash(const ServicePortId& id) {
  return NameHash(fmt::format("{}/{}:{}/{}/{}", id.ns, id.name, id.port_name,
                              kube::ToString(id.protocol), net::ToString(id.family)));
}

std::string HashText(uint64_t hash) {
  std::string text(12, ' ');
  for (size_t i = 12; i-- > 0; hash >>= 5)
    text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[hash & 31];
  return text;
}

std::string ServiceChain(std::string_view prefix, char kind, uint64_t service) {
  return fmt::format("{}{}{}", prefix, kind, HashText(service));
}

std::string_view ProtocolName(kube::Protocol protocol) {
  switch (protocol) {
    case kube::Protocol::kTcp:
      return "tcp";
    case kube::Protocol::kUdp:
      return "udp";
    case kube::Protocol::kSctp:
      return "sctp";
  }
  return "";
}

}  // namespace pointsman::agent
