// Protocols of Services as the kernel numbers them.
#pragma once

#include <cstdint>
#include <netinet/in.h>
#include <optional>

#include "kube/objects/service.h"

namespace pointsman::agent {

// IPPROTO_…
constexpr uint8_t IpProtocol(kube::Protocol protocol) {
  switch (protocol) {
    case kube::Protocol::kUdp:
      return IPPROTO_UDP;
    case kube::Protocol::kSctp:
      return IPPROTO_SCTP;
    case kube::Protocol::kTcp:
      break;
  }
  return IPPROTO_TCP;
}

// nullopt: no Service has it.
constexpr std::optional<kube::Protocol> ServiceProtocol(uint8_t number) {
  for (const kube::Protocol protocol :
       {kube::Protocol::kTcp, kube::Protocol::kUdp, kube::Protocol::kSctp}) {
    if (IpProtocol(protocol) == number) return protocol;
  }
  return std::nullopt;
}

}  // namespace pointsman::agent
