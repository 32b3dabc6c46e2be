// Which modules this node's kernel has, and loading them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kube/process/child_process.h"
#include "node-agent/modules/module_state.h"

namespace pointsman::agent {

// What libkmod has to look up or to load is done by the program pointsman-kmod, one process a call:
// damaged files below /lib/modules or in modprobe.d crash that process or are an error after the
// limits' time. A module that is loaded is seen without it. Thread-safe.
class KernelModules {
 public:
  struct Options {
    std::string root;     // modules are below root/lib/modules/release; modprobe.d of the same root
    std::string release;  // as `uname -r`
    std::string program;  // path of pointsman-kmod
    kube::ChildLimits look_up;
    kube::ChildLimits load;
  };
  explicit KernelModules(Options options) : options_(std::move(options)) {}
  // Of the running kernel, with pointsman-kmod from the directory of this program. `root`: "" is /.
  explicit KernelModules(const std::string& root);

  // By name or alias, in the order of `names`, none of them kLoadedNow, kNotPermitted, kNotLoaded
  // or kUnknown. Throws std::runtime_error, which names the module and where its index is, when one
  // cannot be looked up; std::system_error when pointsman-kmod cannot be started.
  std::vector<ModuleState> LookUp(const std::vector<std::string>& names) const;
  // And loads what is loadable, which is none of them then: see ModuleLoader::Load.
  std::vector<ModuleState> Load(const std::vector<std::string>& names) const;
  // "/lib/modules/6.1.0-18-amd64".
  const std::string& directory() const { return directory_; }

 private:
  enum class Action : bool { kLookUp, kLoad };
  std::vector<ModuleState> Run(Action action, const std::vector<std::string>& names,
                               const kube::ChildLimits& limits) const;
  [[noreturn]] void Fail(Action action, const std::string& name, const std::string& why) const;

  const Options options_;
  const std::string directory_ = options_.root + "/lib/modules/" + options_.release;
};

}  // namespace pointsman::agent
