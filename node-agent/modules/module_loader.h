// Looks kernel modules up and loads them with libkmod. For pointsman-kmod alone: libkmod 30 reads
// beyond a damaged index of modules (modules.dep.bin), or goes round in it for ever.
#pragma once

#include <string>

#include "node-agent/modules/module_state.h"

struct kmod_ctx;

namespace pointsman::agent {

// Not thread-safe; one an operation.
class ModuleLoader {
 public:
  // Modules below `root`/lib/modules/`release`; modprobe.d of the same root. Throws
  // std::system_error when libkmod cannot start; a missing directory is no error (then every module
  // is kNotFound unless loaded).
  ModuleLoader(const std::string& root, const std::string& release);
  ~ModuleLoader();
  ModuleLoader(const ModuleLoader&) = delete;
  ModuleLoader& operator=(const ModuleLoader&) = delete;

  // `name`: a module's name or an alias; dashes and underscores are the same.
  ModuleState LookUp(const std::string& name);
  // One that is loadable is loaded with what it depends on. Honours what the administrator wrote in
  // modprobe.d: a blacklisted module or one with an install command is not loaded.
  ModuleState Load(const std::string& name);

 private:
  kmod_ctx* context_;
};

}  // namespace pointsman::agent
