// The clients that a mode has bound, each once. A mode may keep one for each address, list or kind
// of traffic of a Service port: the one that was renewed last tells where the client is.
#pragma once

#include <chrono>
#include <cstddef>
#include <unordered_map>
#include <utility>
#include <vector>

#include "node-agent/dataplane/client_binding.h"

namespace pointsman::agent {

// Not thread-safe.
class BindingCollector {
 public:
  // Keeps at most `most` clients, the first that it gets.
  explicit BindingCollector(size_t most = kMostBindings) : most_(most) {}

  // `left`: until it ends; what ClientBinding::left becomes, in whole seconds within its range.
  void Add(ClientBinding binding, std::chrono::milliseconds left);
  // As if nothing had been added.
  void clear();
  bool full() const { return bindings_.size() >= most_; }
  std::vector<ClientBinding> Take() { return std::move(bindings_); }

 private:
  struct Place {
    size_t index;  // in bindings_
    std::chrono::milliseconds left;
  };
  const size_t most_;
  std::vector<ClientBinding> bindings_;
  std::unordered_map<const ServicePortEntry*, std::unordered_map<net::IpAddress, Place>> places_;
};

}  // namespace pointsman::agent
