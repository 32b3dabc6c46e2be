#include "node-agent/model/dns_cache.h"

#include <algorithm>

namespace pointsman::agent {
namespace {

bool IsOfDnsCache(const NodeNetwork& node, const net::IpAddress& ip) {
  return std::binary_search(node.dns_cache_addresses.begin(), node.dns_cache_addresses.end(), ip);
}

}  // namespace

DnsCachePorts::DnsCachePorts(const ServiceModel& model) {
  if (model.node.dns_cache_addresses.empty()) return;
  for (const auto& [id, entry] : model.entries) {
    if (id.protocol == kube::Protocol::kUdp && IsOfDnsCache(model.node, entry->cluster_ip))
      places_.emplace(entry->cluster_ip, entry->port);
  }
}

bool ConcernsDnsCache(const NodeNetwork& node, const ModelDelta& delta) {
  if (node.dns_cache_addresses.empty()) return false;
  const auto concerns = [&](const EntryPtr& entry) {
    return entry != nullptr && IsOfDnsCache(node, entry->cluster_ip);
  };
  return std::any_of(delta.changes.begin(), delta.changes.end(), [&](const EntryChange& change) {
    return concerns(change.before) || concerns(change.after);
  });
}

}  // namespace pointsman::agent
