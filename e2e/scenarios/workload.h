// What runs on a test cluster with kubelets beside Pointsman: servers, and a Pod to send from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pointsman::e2e {

// YAML of a Deployment "web" of six servers (label app=web), TCP and UDP on each of the ports,
// which go on for 2 s after they were told to end, and of a Pod "client" on node-1. Its network
// namespace there is "default_client".
std::string WorkloadYaml(const std::vector<uint16_t>& ports);

// YAML of a Service "web" of the Deployment's port 8080: 10.96.1.1:80 and node port 30080, TCP and
// UDP.
std::string WebServiceYaml();

}  // namespace pointsman::e2e
