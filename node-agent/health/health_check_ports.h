// Which health check node ports the model asks for, kept up to date change by change.
#pragma once

#include <cstdint>
#include <map>

#include "node-agent/health/service_health.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// The entries of a Service (one a port and family) share its health check node port. Not
// thread-safe.
class HealthCheckPorts {
 public:
  // Returns whether Services() differs afterwards.
  bool Apply(const ModelDelta& delta);
  ServiceHealth::Services Services() const;

 private:
  // port → entries → ready endpoints on this node
  std::map<uint16_t, std::map<ServicePortId, int>> ports_;
};

}  // namespace pointsman::agent
