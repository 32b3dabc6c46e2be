// services: what a node's kernel has, as its agent reads it, by `kubectl exec` in the agent's Pod.
#pragma once

#include "kube/process/child_process.h"
#include "kubectl-pointsman/exit_code.h"
#include "kubectl-pointsman/options.h"

namespace pointsman::plugin {

// Why `kubectl exec` did not end well, with the remedy. `listed`: something was printed before.
Failure FailureOfExec(const kube::ChildExit& ended, const Options& options, bool listed);

}  // namespace pointsman::plugin
