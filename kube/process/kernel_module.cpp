#include "kube/process/kernel_module.h"

#include <fstream>
#include <map>
#include <mutex>
#include <utility>

#include <unistd.h>

#include "kube/process/kernel_release.h"

namespace pointsman::kube {
namespace {

bool IsPathThere(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

// nullopt: there is no such list.
std::optional<bool> ListNames(const std::string& list, const std::string& module) {
  std::ifstream lines(list);
  if (!lines) return std::nullopt;
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with("/" + module + ".ko")) return true;
  }
  return false;
}

}  // namespace

std::optional<bool> KernelHasModule(const std::string& name, const std::string& modules_root) {
  if (IsPathThere("/sys/module/" + name)) return true;
  // Built in, a module without parameters has no such folder.
  if (!IsPathThere("/proc/modules")) return true;  // a kernel without modules loads none
  const std::string list = modules_root + "/lib/modules/" + KernelRelease() + "/modules.builtin";
  static std::mutex mutex;
  static std::map<std::pair<std::string, std::string>, bool> known;  // a list and a module in it
  const std::lock_guard lock(mutex);
  const auto found = known.find({list, name});
  if (found != known.end()) return found->second;
  const std::optional<bool> built_in = ListNames(list, name);
  if (built_in) known.emplace(std::pair{list, name}, *built_in);
  return built_in;
}

}  // namespace pointsman::kube
