// Programs that are installed together find each other.
#pragma once

#include <string>

namespace pointsman::kube {

// The path of the program `name` in the directory of the running one; "" when there is none that
// may be executed. Thread-safe.
std::string ProgramBesideThis(const std::string& name);

}  // namespace pointsman::kube
