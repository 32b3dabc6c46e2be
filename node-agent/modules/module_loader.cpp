#include "node-agent/modules/module_loader.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fmt/format.h>
#include <libkmod.h>
#include <unistd.h>

namespace pointsman::agent {
namespace {

// The modules an alias or name stands for.
class Found {
 public:
  Found(kmod_ctx* context, const std::string& name) {
    // The kernel's own names have underscores, but file names and people use dashes too.
    int error = kmod_module_new_from_lookup(context, name.c_str(), &list_);
    if (error < 0 && error != -ENOENT && error != -ENOSYS) {
      error_ = std::generic_category().message(-error);
      return;
    }
    if (list_ != nullptr) return;
    // Without an index (no /lib/modules) a loaded module is still known by its name.
    kmod_module* module = nullptr;
    if (kmod_module_new_from_name(context, name.c_str(), &module) == 0) single_ = module;
  }
  Found(const Found&) = delete;
  Found& operator=(const Found&) = delete;
  ~Found() {
    if (list_ != nullptr) kmod_module_unref_list(list_);
    if (single_ != nullptr) kmod_module_unref(single_);
  }

  // Why it could not be looked up; "": it was.
  const std::string& error() const { return error_; }

  template <typename Visit>
  void ForEach(const Visit& visit) const {
    kmod_list* item = nullptr;
    kmod_list_foreach(item, list_) {
      kmod_module* module = kmod_module_get_module(item);
      visit(module);
      kmod_module_unref(module);
    }
    if (single_ != nullptr) visit(single_);
  }

 private:
  kmod_list* list_ = nullptr;
  kmod_module* single_ = nullptr;
  std::string error_;
};

ModuleState::Kind KindOf(kmod_module* module) {
  const int init = kmod_module_get_initstate(module);
  // Without an index libkmod takes a builtin module, which has a directory in /sys/module but no
  // initstate there, for one that is being loaded.
  const bool builtin =
      init == KMOD_MODULE_BUILTIN ||
      (init == KMOD_MODULE_COMING &&
       ::access(fmt::format("/sys/module/{}/initstate", kmod_module_get_name(module)).c_str(),
                F_OK) != 0);
  if (builtin) return ModuleState::Kind::kBuiltin;
  if (init == KMOD_MODULE_LIVE || init == KMOD_MODULE_COMING) return ModuleState::Kind::kLoaded;
  if (kmod_module_get_path(module) != nullptr) return ModuleState::Kind::kLoadable;
  return ModuleState::Kind::kNotFound;
}

ModuleState StateOf(const Found& found) {
  if (!found.error().empty()) return {ModuleState::Kind::kUnknown, found.error()};
  // An alias of several modules is there when one of them is.
  ModuleState best{ModuleState::Kind::kNotFound, ""};
  found.ForEach([&](kmod_module* module) { best.kind = std::min(best.kind, KindOf(module)); });
  return best;
}

std::string Explain(int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return "not permitted: the agent needs CAP_SYS_MODULE, and kernel.modules_disabled must be 0";
    case ENOSYS:
    case EOPNOTSUPP:
      return "its file is compressed in a way that neither the kernel nor libkmod here can read";
    case ENOEXEC:
      return "its file does not fit this kernel (Exec format error)";
    case ENOKEY:
    case EKEYREJECTED:
    case EKEYEXPIRED:
    case EKEYREVOKED:
      return "its signature is not accepted by this kernel (secure boot, module.sig_enforce)";
    default:
      return std::generic_category().message(error);
  }
}

}  // namespace

ModuleLoader::ModuleLoader(const std::string& root, const std::string& release) {
  const std::string directory = root + "/lib/modules/" + release;
  const std::string etc = root + "/etc/modprobe.d";
  const std::string run = root + "/run/modprobe.d";
  const std::string local = root + "/usr/local/lib/modprobe.d";
  const std::string lib = root + "/lib/modprobe.d";
  const char* config[] = {etc.c_str(), run.c_str(), local.c_str(), lib.c_str(), nullptr};
  context_ = kmod_new(directory.c_str(), config);
  if (context_ == nullptr) {
    throw std::system_error(errno, std::generic_category(), "open " + directory);
  }
  // Its messages go to stderr; what matters comes back as errors.
  kmod_set_log_priority(context_, 0);
}

ModuleLoader::~ModuleLoader() {
  kmod_unref(context_);
}

ModuleState ModuleLoader::LookUp(const std::string& name) {
  return StateOf(Found(context_, name));
}

ModuleState ModuleLoader::Load(const std::string& name) {
  const Found found(context_, name);
  ModuleState result = StateOf(found);
  if (result.kind != ModuleState::Kind::kLoadable) return result;
  result = {ModuleState::Kind::kNotLoaded, "module not found"};
  found.ForEach([&](kmod_module* module) {
    if (result.kind == ModuleState::Kind::kLoadedNow || kmod_module_get_path(module) == nullptr)
      return;
    if (const char* command = kmod_module_get_install_commands(module)) {
      result = {ModuleState::Kind::kNotLoaded, fmt::format("modprobe.d says: install {} {}",
                                                           kmod_module_get_name(module), command)};
      return;
    }
    const int error = kmod_module_probe_insert_module(
        module, KMOD_PROBE_APPLY_BLACKLIST | KMOD_PROBE_IGNORE_COMMAND, nullptr, nullptr, nullptr,
        nullptr);
    if (error == KMOD_PROBE_APPLY_BLACKLIST) {
      result = {ModuleState::Kind::kNotLoaded, "it is blacklisted in modprobe.d"};
    } else if (error < 0 && error != -EEXIST) {
      const bool denied = error == -EPERM || error == -EACCES;
      result = {denied ? ModuleState::Kind::kNotPermitted : ModuleState::Kind::kNotLoaded,
                Explain(-error)};
    } else {
      result = {ModuleState::Kind::kLoadedNow, ""};
    }
  });
  return result;
}

}  // namespace pointsman::agent
