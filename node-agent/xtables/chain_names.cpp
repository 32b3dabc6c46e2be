#include "node-agent/xtables/chain_names.h"

#include <spdlog/fmt/fmt.h>

namespace pointsman::agent::xtables {

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

}  // namespace pointsman::agent::xtables
