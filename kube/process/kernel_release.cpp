#include "kube/process/kernel_release.h"

#include <cerrno>
#include <sys/utsname.h>
#include <system_error>

namespace pointsman::kube {

std::string KernelRelease() {
  utsname names{};
  if (uname(&names) != 0) throw std::system_error(errno, std::generic_category(), "uname");
  return names.release;
}

}  // namespace pointsman::kube
