// --cleanup: takes all of Pointsman's rules out of this node's kernel.
#pragma once

#include "node-agent/agent/options.h"

namespace pointsman::agent {

// Has this process CAP_NET_ADMIN?
bool MayChangeTheNetwork();

// Returns the process's exit code; says on the log what could not be removed.
int RunCleanup(const Options& options);

}  // namespace pointsman::agent
