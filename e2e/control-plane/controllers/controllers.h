// What runs beside the API.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

class Controllers {
 public:
  virtual ~Controllers() = default;
  // Ends all threads.
  virtual void Stop() = 0;
};

struct ControllerOptions {
  std::string service_cidr = "10.96.0.0/16";  // comma-separated pair for dual stack
  int node_port_first = 30000;
  int node_port_last = 32767;
  std::string advertise_address;  // endpoint of default/kubernetes; empty: it has none
  int advertise_port = 6443;
  // A node whose Lease is not renewed for so long becomes NotReady.
  std::chrono::milliseconds node_monitor_grace_period{40'000};
  std::chrono::milliseconds event_ttl{3'600'000};
};

// Starts the EndpointSlice (and Endpoints), DaemonSet, Deployment, ReplicaSet and garbage
// collection controllers and the scheduler.
std::unique_ptr<Controllers> StartControllers(Store& store, Registry& registry,
                                              const Emulation& emulation,
                                              const ControllerOptions& options);

}  // namespace pointsman::e2e
