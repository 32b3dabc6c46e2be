// What tells traffic of the cluster's Pods from other traffic: detectLocalMode and what belongs to
// it, read once for all modes (kube-proxy's pkg/proxy/util/localdetector.go).
#pragma once

#include <cstdint>
#include <string>

#include "kube/net/ip_address.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

struct LocalDetector {
  enum class Kind : uint8_t {
    kUnknown,          // nothing tells them apart
    kEverything,       // all traffic is the cluster's (a CIDR of length 0)
    kPrefix,           // what has a source in `prefix`
    kInterface,        // what comes in by `interface`
    kInterfacePrefix,  // … by one whose name begins with `interface`
  };
  Kind kind = Kind::kUnknown;
  net::IpPrefix prefix;
  // A name for the kernel, and for iptables-restore's input: 15 bytes at most, as a prefix 14, and
  // no blanks, quotes, control characters, '\', '/' or '+'.
  std::string interface;

  // Of several CIDRs of a family the first counts. With NodeCIDR, settings.cluster_cidrs are this
  // node's. Throws std::invalid_argument that names the field.
  LocalDetector(const kube::ProxySettings& settings, net::Family family);
};

}  // namespace pointsman::agent
