// sessionAffinity: ClientIP as a mode remembers it on this node: to which backend a client's next
// connection goes. A handover carries it from one mode to the next.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "node-agent/model/service_model.h"

namespace pointsman::agent {

struct ClientBinding {
  EntryPtr entry;         // with affinity
  net::IpAddress client;  // of the entry's family
  net::IpAddress backend_ip;
  uint16_t backend_port = 0;
  // Until it ends, unless the client connects again: 1 s to the entry's affinity_timeout.
  std::chrono::seconds left{0};
};

// How many are carried at most: of a node with more clients some are placed afresh.
inline constexpr size_t kMostBindings = 200'000;

// Whether `choice` has that backend. A binding to another one is void.
inline bool Has(const BackendChoice& choice, const net::IpAddress& ip, uint16_t port) {
  const auto at =
      std::lower_bound(choice.backends.begin(), choice.backends.end(), Backend{ip, port, false});
  return at != choice.backends.end() && at->ip == ip && at->port == port;
}

// Whether any class of the entry's traffic may go there.
inline bool MayGoTo(const ServicePortEntry& entry, const net::IpAddress& ip, uint16_t port) {
  return Has(entry.internal, ip, port) || Has(entry.external, ip, port) ||
         Has(entry.external_from_node, ip, port);
}

}  // namespace pointsman::agent
