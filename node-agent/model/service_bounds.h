// How much one Service may ask for. An object of 1.5 MiB has room for 40,000 addresses and 25,000
// ports, or for ports and endpoints, whose product is not in the object and would be in the memory
// of each node: what multiplies is bounded before it is multiplied. What is beyond a bound is left
// out, always the same part on every node, and told on the Service. All of it is far beyond what
// Kubernetes is tested with (5,000 endpoints a Service,
// https://kubernetes.io/docs/setup/best-practices/cluster-large/ and
// https://github.com/kubernetes/community/blob/master/sig-scalability/configs-and-limits/thresholds.md).
#pragma once

#include <cstddef>

namespace pointsman::agent {

// Each a Service and family. (Cluster IP and node port are one a port: they grow as the object.)

// Load balancer and external IPs x ports.
inline constexpr size_t kMostAddressPorts = size_t{1} << 16;
// loadBalancerSourceRanges x load balancer IPs x ports.
inline constexpr size_t kMostSourceRanges = size_t{1} << 18;
// Endpoints x ports.
inline constexpr size_t kMostEndpointPorts = size_t{1} << 18;

}  // namespace pointsman::agent
