// Which kernel this is.
#pragma once

#include <string>

namespace pointsman::kube {

// As `uname -r`: "6.1.0-18-amd64". Throws std::system_error.
std::string KernelRelease();

}  // namespace pointsman::kube
