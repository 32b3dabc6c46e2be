// --cleanup-kube-proxy: takes what a kube-proxy that has ended left out of this node's kernel.
#pragma once

#include <string>

#include "node-agent/agent/options.h"
#include "node-agent/kube_proxy/removal.h"
#include "node-agent/kube_proxy/virtual_servers.h"

namespace pointsman::agent {

// Those that are Pointsman's now, by the kernel's own record of them. Throws std::system_error.
kube_proxy::IsOthers PointsmansServers();

// What a Pointsman on this node needs is left to it. Without how long to wait and whom to tell.
// Throws std::system_error, and what IpvsNotice throws.
kube_proxy::RemovalOptions BesidePointsman(const std::string& modules_root);

// Beside a running agent or without one. Returns the process's exit code; says on the log what is
// removed, and what could not be.
int RunKubeProxyCleanup(const Options& options);

}  // namespace pointsman::agent
