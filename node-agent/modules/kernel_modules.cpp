#include "node-agent/modules/kernel_modules.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>
#include <string.h>

#include "kube/process/kernel_release.h"
#include "kube/process/program_path.h"
#include "kube/text/text.h"

namespace pointsman::agent {
namespace {

constexpr const char* kKmodProgram = "pointsman-kmod";

// A mode's modules are looked up in milliseconds, on a busy machine in seconds, and where that
// fails another mode may run. Meanwhile the agent changes no rules.
constexpr kube::ChildLimits kLookUpLimits{
    .idle = std::chrono::seconds(10), .most = std::chrono::seconds(30), .output = 256 << 10};
// Their files may be on a disk that is slow, and a module may wait for its device.
constexpr kube::ChildLimits kLoadLimits{
    .idle = std::chrono::seconds(30), .most = std::chrono::seconds(120), .output = 256 << 10};

// Whether a module of this very name is loaded, as libkmod finds out: `initstate` of what is built
// in is not there.
bool IsLive(std::string name) {
  if (name.find('/') != std::string::npos) return false;
  std::replace(name.begin(), name.end(), '-', '_');
  std::ifstream file("/sys/module/" + name + "/initstate");
  std::string state;
  return file >> state && state == "live";
}

std::string HowItEnded(const kube::ChildExit& exit) {
  if (exit.status > 128) {
    const char* const signal = ::sigabbrev_np(exit.status - 128);
    return fmt::format("{} was ended by SIG{}", kKmodProgram,
                       signal != nullptr ? signal : std::to_string(exit.status - 128));
  }
  const std::string_view error = text::TrimSpace(exit.error_output);
  const size_t line = error.rfind('\n');
  return fmt::format("{} ended with status {}: {}", kKmodProgram, exit.status,
                     text::Message(line == error.npos ? error : error.substr(line + 1), 1000));
}

}  // namespace

KernelModules::KernelModules(const std::string& root)
    : KernelModules(Options{.root = root,
                            .release = kube::KernelRelease(),
                            .program = kube::ProgramBesideThis(kKmodProgram),
                            .look_up = kLookUpLimits,
                            .load = kLoadLimits}) {}

std::vector<ModuleState> KernelModules::LookUp(const std::vector<std::string>& names) const {
  return Run(Action::kLookUp, names, options_.look_up);
}

std::vector<ModuleState> KernelModules::Load(const std::vector<std::string>& names) const {
  // The look-up first, which ends soon or fails soon: loading may take its time.
  std::vector<ModuleState> states = LookUp(names);
  std::vector<std::string> loadable;
  for (size_t i = 0; i < names.size(); ++i) {
    if (states[i].kind == ModuleState::Kind::kLoadable) loadable.push_back(names[i]);
  }
  if (loadable.empty()) return states;
  std::vector<ModuleState> loaded = Run(Action::kLoad, loadable, options_.load);
  auto next = loaded.begin();
  for (ModuleState& state : states) {
    if (state.kind == ModuleState::Kind::kLoadable) state = std::move(*next++);
  }
  return states;
}

std::vector<ModuleState> KernelModules::Run(Action action, const std::vector<std::string>& names,
                                            const kube::ChildLimits& limits) const {
  std::vector<ModuleState> states(names.size(), ModuleState{ModuleState::Kind::kLoaded, ""});
  std::vector<std::string> argv{options_.program, action == Action::kLoad ? "load" : "look-up",
                                options_.root, options_.release};
  std::vector<size_t> asked;  // indexes of the others
  for (size_t i = 0; i < names.size(); ++i) {
    if (IsLive(names[i])) continue;
    asked.push_back(i);
    argv.push_back(names[i]);
  }
  if (asked.empty()) return states;
  if (options_.program.empty()) {
    throw std::runtime_error(
        fmt::format("{} is not installed in the directory of pointsman-node-agent", kKmodProgram));
  }

  size_t answered = 0;
  std::string line;
  const auto current = [&] { return answered < asked.size() ? names[asked[answered]] : "?"; };
  const auto take_line = [&] {
    const std::optional<ModuleState> state = ParseModuleState(line);
    if (!state || answered == asked.size())
      Fail(action, current(), fmt::format("{} wrote {}", kKmodProgram, text::Quote(line)));
    if (state->kind == ModuleState::Kind::kUnknown) Fail(action, current(), state->error);
    states[asked[answered++]] = *state;
    line.clear();
  };
  const auto on_output = [&](std::string_view piece) {
    for (size_t end; (end = piece.find('\n')) != piece.npos; piece.remove_prefix(end + 1)) {
      line += piece.substr(0, end);
      take_line();
    }
    line += piece;
  };
  try {
    const kube::ChildExit exit = kube::RunChild(argv, {}, on_output, limits);
    if (exit.status != 0 || answered != asked.size()) Fail(action, current(), HowItEnded(exit));
  } catch (const kube::ChildKilled& killed) {
    Fail(action, current(), fmt::format("{} was killed: {}", kKmodProgram, killed.limit));
  }
  return states;
}

void KernelModules::Fail(Action action, const std::string& name, const std::string& why) const {
  throw std::runtime_error(fmt::format(
      "{} module {}: {}; is {}/modules.dep.bin, or another index there, damaged? Run depmod {}",
      action == Action::kLoad ? "load" : "look up", name, why, directory_, options_.release));
}

}  // namespace pointsman::agent
