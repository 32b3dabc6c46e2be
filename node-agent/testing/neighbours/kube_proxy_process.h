// kube-proxy as a process, for tests of whole nodes.
#pragma once

#include <cstdint>
#include <string>

#include "node-agent/testing/neighbours/kube_proxy.h"

namespace pointsman::agent::testing {

// Until SIGTERM, whereupon what it wrote stays. In mode "ipvs", "iptables" with the first of the
// endpoints, or (mode "") ipvs where the kernel has it; what it wrote and is gone it writes again.
// It has kube-proxy's ports 10249 and 10256 when nobody else has, and `ready_port` once its rules
// are written; it answers on none of them.
void RunKubeProxy(const ProxiedService& service, const std::string& mode, uint16_t ready_port);

}  // namespace pointsman::agent::testing
