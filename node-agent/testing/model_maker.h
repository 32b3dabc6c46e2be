// Small service models for tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "node-agent/model/service_model.h"

namespace pointsman::agent::testing {

inline net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}

inline Backend MakeBackend(const std::string& ip, uint16_t port, bool local = true) {
  return {Ip(ip), port, local};
}

inline ServicePortEntry MakeEntry(const std::string& name, kube::Protocol protocol,
                                  const std::string& cluster_ip, uint16_t port,
                                  std::vector<Backend> backends) {
  std::sort(backends.begin(), backends.end());
  ServicePortEntry entry;
  entry.cluster_ip = Ip(cluster_ip);
  entry.id = {"default", name, "p", protocol, entry.cluster_ip.family()};
  entry.port = port;
  entry.internal.backends = backends;
  entry.external.backends = std::move(backends);
  return entry;
}

// A model with the deltas that lead to it.
class ModelMaker {
 public:
  ServiceModel model;

  // Adds or replaces.
  ModelDelta Put(ServicePortEntry entry) {
    ModelDelta delta;
    auto after = std::make_shared<const ServicePortEntry>(std::move(entry));
    EntryPtr& place = model.entries[after->id];
    delta.changes.push_back({place, after});
    place = after;
    return delta;
  }
  ModelDelta Remove(const ServicePortId& id) {
    ModelDelta delta;
    const auto it = model.entries.find(id);
    if (it == model.entries.end()) return delta;
    delta.changes.push_back({it->second, nullptr});
    model.entries.erase(it);
    return delta;
  }
};

}  // namespace pointsman::agent::testing
