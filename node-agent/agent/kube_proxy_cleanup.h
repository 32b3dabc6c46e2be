// --cleanup-kube-proxy: takes what a kube-proxy that has ended left out of this node's kernel.
#pragma once

#include "node-agent/agent/options.h"
#include "node-agent/kube_proxy/virtual_servers.h"

namespace pointsman::agent {

// Those that are Pointsman's now, by the kernel's own record of them. Throws std::system_error.
kube_proxy::IsOthers PointsmansServers();

// Beside a running agent or without one. Returns the process's exit code; says on the log what is
// removed, and what could not be.
int RunKubeProxyCleanup(const Options& options);

}  // namespace pointsman::agent
