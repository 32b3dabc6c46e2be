// Reads out of the kernel whether one changed endpoint is effective: cheap enough to be asked again
// and again until it is.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "kube/net/ip_address.h"

namespace pointsman::bench {

struct EndpointChange {
  net::IpAddress service;
  uint16_t service_port = 0;  // TCP
  net::IpAddress endpoint;
  uint16_t endpoint_port = 0;
  bool present = false;  // what is waited for: there, or gone
};

// Not thread-safe. Methods throw std::system_error when the kernel does not answer.
class KernelReader {
 public:
  virtual ~KernelReader() = default;
  // Before the change is asked for.
  virtual void Arm(const EndpointChange& change) = 0;
  // Is the change of the last Arm in the kernel?
  virtual bool Done() = 0;
};

// "ipvs": the destinations of the one virtual server; a destination of weight 0 is gone.
// "xtables": the number of rules in the legacy table nat, which one endpoint more or less changes.
// "nftables": the generation of the network namespace's rules, which each commit changes.
// "connections": for a mode that keeps its endpoints in no kernel table. Connects to the Service
// from the node and looks which endpoint the connection came to; an endpoint is gone when 20
// connections in a row did not. Listens on every address at port 8080 for all endpoints, whose
// addresses must be local (ip route add local 11.0.0.0/8 dev lo). Throws std::invalid_argument for
// any other name.
std::unique_ptr<KernelReader> MakeKernelReader(std::string_view name);

}  // namespace pointsman::bench
