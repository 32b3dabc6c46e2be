// Can this node run that mode? Kernel version, modules (builtin, loaded, loadable, missing),
// sysctls and tools; and loading what is loadable.
#pragma once

#include <string>
#include <vector>

#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

struct PreflightResult {
  bool passed = false;
  std::string reason;   // CamelCase for a condition: "PreflightPassed", "ModuleMissing",
                        // "ModuleNotLoaded", "KernelTooOld", "FeatureMissing", "ToolMissing",
                        // "NotPermitted"; and of the node "NeighbourRefused" (neighbour_check.h)
  std::string message;  // names every missing thing: "kernel 6.18.44 has no ip_vs (module not
                        // found, not built in); …"
  std::string kernel_release;
  // Needed modules, in the order they were looked at, each Builtin, Loaded, LoadedNow or Missing.
  std::vector<kube::ModuleStatus> modules;
  // What does not fail the preflight, and what cannot be served without it; `message` has it too:
  // missing modules of OptionalModules and of settings.modules.extra, features of the kernel.
  std::vector<std::string> warnings;
};

// Loads modules when `load` (and settings.modules.policy is Load); with load=false it only looks
// and counts "loadable" as passed (state "Loadable"): this is what a candidate is asked. Modules
// are read from `modules_root`/lib/modules/<release> ("" = "/"); in a container the host's must be
// mounted. Never throws for what is missing; throws std::runtime_error when the question cannot be
// asked: see KernelModules. Thread-safe.
PreflightResult RunPreflight(kube::Mode mode, const kube::ProxySettings& settings, bool load,
                             const std::string& modules_root = "");

}  // namespace pointsman::agent
