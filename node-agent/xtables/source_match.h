// detectLocalMode in the words of iptables: the match of what comes from the cluster's Pods, and of
// what comes from elsewhere.
#pragma once

#include <optional>
#include <string>

#include "kube/net/ip_address.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent::xtables {

struct SourceMatch {
  // Throws std::invalid_argument that names the field (local_detector.h).
  SourceMatch(const kube::ProxySettings& settings, net::Family family);

  // Matches what comes from the cluster ("-s 10.244.0.0/16"; "": everything does), and what comes
  // from elsewhere. Neither is there when nothing tells them apart, or there is nothing to match.
  std::optional<std::string> from_cluster;
  std::optional<std::string> off_cluster;
};

}  // namespace pointsman::agent::xtables
