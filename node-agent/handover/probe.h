// Does traffic flow? TCP connections from this node, made before and after a handover.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

struct Probe {
  std::string name;  // for messages: "apiserver 10.0.0.1:6443"
  net::IpAddress address;
  uint16_t port = 0;
};

// Connects to all at once and returns the names of those that answered within `timeout`, in order.
// A refused connection is no answer. Each probe is tried up to twice: one lost packet must not take
// a handover back. Throws std::system_error if no socket can be made.
std::vector<std::string> PassingTcpProbes(const std::vector<Probe>& probes,
                                          std::chrono::milliseconds timeout);

}  // namespace pointsman::agent
