// What this node's NodeLocal DNSCache answers itself: queries to the cluster IPs of the cluster's
// DNS, which it puts on an interface of its own (kubernetes/dns, cmd/node-cache/app/cache_app.go;
// KEP-1024). Its rules exempt them from connection tracking, so that no rule of NAT applies. IPVS
// asks no connection tracking: it must have no virtual server there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_set>
#include <utility>

#include "kube/net/ip_address.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

class DnsCachePorts {
 public:
  DnsCachePorts() = default;
  // Of an address of the cache, the ports that a Service has over UDP: DNS is what is there, over
  // TCP by the same number. Its other ports (metrics) are the Service's.
  explicit DnsCachePorts(const ServiceModel& model);

  // Does the cache answer the entry's cluster IP and port?
  bool Answers(const ServicePortEntry& entry) const {
    return entry.id.protocol != kube::Protocol::kSctp && Answers(entry.cluster_ip, entry.port);
  }
  // Over TCP and UDP.
  bool Answers(const net::IpAddress& ip, uint16_t port) const {
    return !places_.empty() && places_.contains({ip, port});
  }

 private:
  struct Hash {
    size_t operator()(const std::pair<net::IpAddress, uint16_t>& place) const noexcept {
      return std::hash<net::IpAddress>()(place.first) ^ place.second;
    }
  };
  std::unordered_set<std::pair<net::IpAddress, uint16_t>, Hash> places_;
};

// May the change make DnsCachePorts another one?
bool ConcernsDnsCache(const NodeNetwork& node, const ModelDelta& delta);

}  // namespace pointsman::agent
