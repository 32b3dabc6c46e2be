#include "kube/process/kernel_module.h"

#include <fstream>

#include <unistd.h>

#include "kube/process/kernel_release.h"

namespace pointsman::kube {
namespace {

bool IsPathThere(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

}  // namespace

std::optional<bool> KernelHasModule(const std::string& name, const std::string& modules_root) {
  if (IsPathThere("/sys/module/" + name)) return true;
  // Built in, a module without parameters has no such folder.
  if (!IsPathThere("/proc/modules")) return true;  // a kernel without modules loads none
  std::ifstream builtin(modules_root + "/lib/modules/" + KernelRelease() + "/modules.builtin");
  if (!builtin) return std::nullopt;
  for (std::string line; std::getline(builtin, line);) {
    if (line.ends_with("/" + name + ".ko")) return true;
  }
  return false;
}

}  // namespace pointsman::kube
