// What the kernel has of a module, and the lines in which pointsman-kmod tells the agent.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pointsman::agent {

struct ModuleState {
  enum class Kind {
    kBuiltin,
    kLoaded,
    kLoadedNow,     // this call loaded it
    kLoadable,      // its file is there; only where nothing is to be loaded
    kNotFound,      // unless it is built in without a word of it in modules.builtin
    kNotPermitted,  // to load it; `error` says what to do
    kNotLoaded,     // loading it failed
    kUnknown,       // looking it up failed
  };
  Kind kind = Kind::kNotFound;
  // Of the last three, for a person: "it is blacklisted in modprobe.d".
  std::string error;
};

// "NotLoaded it is blacklisted in modprobe.d", without a line's end, at most 2 KiB.
std::string ToLine(const ModuleState& state);
// nullopt: `line` is none that ToLine makes.
std::optional<ModuleState> ParseModuleState(std::string_view line);

}  // namespace pointsman::agent
