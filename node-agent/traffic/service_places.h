// Where clients find the TCP Services of a model on this node.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "kube/net/socket_address.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

struct IpPortHash {
  size_t operator()(const net::IpPort& place) const noexcept {
    return std::hash<net::IpAddress>()(place.ip) * 31 + place.port;
  }
};

// Holds the entries, so it may outlive the model. As large as the Services' addresses: node ports
// are not multiplied by the node's addresses.
class ServicePlaces {
 public:
  ServicePlaces() = default;
  explicit ServicePlaces(const ServiceModel& model);

  // Whose address and port that is; null: no Service's.
  const ServicePortEntry* Find(const net::IpPort& place) const;
  bool empty() const {
    return addresses_.empty() && node_ports_[0].empty() && node_ports_[1].empty();
  }

 private:
  static size_t Index(net::Family family) { return family == net::Family::kIPv4 ? 0 : 1; }

  std::unordered_map<net::IpPort, EntryPtr, IpPortHash> addresses_;
  std::array<std::unordered_map<uint16_t, EntryPtr>, 2> node_ports_;  // by family
  std::unordered_set<net::IpAddress> node_addresses_;
};

}  // namespace pointsman::agent
