// --cleanup-kube-proxy: takes what a kube-proxy that has ended left out of this node's kernel.
#pragma once

#include "node-agent/agent/options.h"

namespace pointsman::agent {

// Beside a running agent or without one. Returns the process's exit code; says on the log what is
// removed, and what could not be.
int RunKubeProxyCleanup(const Options& options);

}  // namespace pointsman::agent
