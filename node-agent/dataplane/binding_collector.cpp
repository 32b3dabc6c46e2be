#include "node-agent/dataplane/binding_collector.h"

#include <algorithm>
#include <utility>

namespace pointsman::agent {

void BindingCollector::Add(ClientBinding binding, std::chrono::milliseconds left) {
  using std::chrono::seconds;
  auto& clients = places_[binding.entry.get()];
  const auto known = clients.find(binding.client);
  if (known == clients.end() ? full() : left <= known->second.left) return;
  // A mode may prolong one while a connection is open.
  binding.left = std::clamp(std::chrono::ceil<seconds>(left), seconds(1),
                            std::max(seconds(1), binding.entry->affinity_timeout));
  if (known == clients.end()) {
    clients.emplace(binding.client, Place{bindings_.size(), left});
    bindings_.push_back(std::move(binding));
  } else {
    known->second.left = left;
    bindings_[known->second.index] = std::move(binding);
  }
}

void BindingCollector::clear() {
  bindings_.clear();
  places_.clear();
}

}  // namespace pointsman::agent
