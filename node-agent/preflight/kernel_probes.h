// Asks the running kernel itself whether it has what a module would bring: for kernels without
// loadable modules, and where /lib/modules is not there to be asked. Nothing is changed.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace pointsman::agent {

// `module`: a name that RequiredModules gives; any other: false. The answer is for the calling
// thread's network namespace. Throws std::system_error when the kernel does not let us ask.
bool KernelHasFacility(const std::string& module);

// Was IPVS, which is loaded, built with SCTP? The first of `configurations` (files as the kernel's
// build leaves them, perhaps with gzip) that exists and knows of IPVS tells, else the kernel's
// symbols; nullopt: neither does.
std::optional<bool> IpvsHasSctp(const std::vector<std::string>& configurations);

}  // namespace pointsman::agent
