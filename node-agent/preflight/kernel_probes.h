// Asks the running kernel itself whether it has what a module would bring: for kernels without
// loadable modules, and where /lib/modules is not there to be asked. Nothing is changed.
#pragma once

#include <string>

namespace pointsman::agent {

// `module`: a name that RequiredModules gives; any other: false. The answer is for the calling
// thread's network namespace. Throws std::system_error when the kernel does not let us ask.
bool KernelHasFacility(const std::string& module);

}  // namespace pointsman::agent
