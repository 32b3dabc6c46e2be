// What the kernel or this node refused of single Services, so that it counts against them and not
// against the node.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// A Service that is served, but not in every detail as it asks.
struct ServiceWarning {
  std::string ns;
  std::string service;
  std::string message;  // for a person; names the field or annotation
  auto operator<=>(const ServiceWarning&) const = default;
};

// Of each entry the first message is kept and the others are counted: a Service with a thousand
// ports on a thousand addresses takes no more room here than its entries do elsewhere.
class ServiceRefusals {
 public:
  // "add destination 10.244.1.7:80: No space left on device"
  void Add(const ServicePortId& id, std::string message);
  void Add(ServiceRefusals other);
  // The entry is written anew or gone.
  void Forget(const ServicePortId& id) { refused_.erase(id); }
  void clear() { refused_.clear(); }

  bool empty() const { return refused_.empty(); }
  size_t entries() const { return refused_.size(); }
  // One a Service, sorted: its first entry's message, with how many more there are.
  std::vector<ServiceWarning> Warnings() const;

 private:
  struct Refused {
    std::string message;
    uint64_t count = 0;
  };
  std::map<ServicePortId, Refused> refused_;
};

}  // namespace pointsman::agent
