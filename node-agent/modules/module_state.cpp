#include "node-agent/modules/module_state.h"

#include <utility>

#include "kube/text/text.h"

namespace pointsman::agent {
namespace {

// A line of modprobe.d, which can be in it, has no bound.
constexpr size_t kMaxModuleError = 2000;

constexpr std::pair<ModuleState::Kind, std::string_view> kModuleStates[] = {
    {ModuleState::Kind::kBuiltin, "Builtin"},
    {ModuleState::Kind::kLoaded, "Loaded"},
    {ModuleState::Kind::kLoadedNow, "LoadedNow"},
    {ModuleState::Kind::kLoadable, "Loadable"},
    {ModuleState::Kind::kNotFound, "NotFound"},
    {ModuleState::Kind::kNotPermitted, "NotPermitted"},
    {ModuleState::Kind::kNotLoaded, "NotLoaded"},
    {ModuleState::Kind::kUnknown, "Unknown"},
};

}  // namespace

std::string ToLine(const ModuleState& state) {
  std::string line;
  for (const auto& [kind, word] : kModuleStates) {
    if (kind == state.kind) line = word;
  }
  if (!state.error.empty()) line += " " + text::Shorten(text::Escape(state.error), kMaxModuleError);
  return line;
}

std::optional<ModuleState> ParseModuleState(std::string_view line) {
  const size_t space = line.find(' ');
  for (const auto& [kind, word] : kModuleStates) {
    if (line.substr(0, space) != word) continue;
    ModuleState state{.kind = kind};
    if (space != std::string_view::npos)
      state.error = text::Shorten(text::Escape(line.substr(space + 1)), kMaxModuleError);
    return state;
  }
  return std::nullopt;
}

}  // namespace pointsman::agent
