// One look at, and one loading of, kernel modules through libkmod.
#pragma once

#include <memory>
#include <string>

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

  enum class State { kBuiltin, kLoaded, kLoadable, kNotFound };
  // `name`: a module's name or an alias; dashes and underscores are the same.
  State Look(const std::string& name);

  struct LoadResult {
    bool ok = false;
    bool not_permitted = false;
    std::string error;  // "it is blacklisted in modprobe.d"
  };
  // Loads it with what it depends on. Honours what the administrator wrote in modprobe.d: a
  // blacklisted module or one with an install command is not loaded.
  LoadResult Load(const std::string& name);

 private:
  kmod_ctx* context_;
};

}  // namespace pointsman::agent
