#include "node-agent/handover/mode_choice.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/preflight/neighbour_check.h"

namespace pointsman::agent {
namespace {

// The desired mode and the fallback modes, in order, each once.
std::vector<kube::Mode> Allowed(const kube::ProxySettings& settings) {
  std::vector<kube::Mode> modes{settings.mode};
  for (const kube::Mode mode : settings.fallback_modes) {
    if (std::find(modes.begin(), modes.end(), mode) == modes.end()) modes.push_back(mode);
  }
  return modes;
}

}  // namespace

PreflightResult ModeChooser::Preflight(kube::Mode mode, const kube::ProxySettings& settings,
                                       bool& made) {
  std::optional<PreflightResult> result = steps_.Try("preflight of", kube::ToString(mode), [&] {
    return environment_.Preflight(mode, settings, /*load=*/true);
  });
  made = result.has_value();
  if (made) return *std::move(result);
  const auto why = steps_.failing().find(fmt::format("preflight of {}", kube::ToString(mode)));
  PreflightResult unknown;
  unknown.reason = "PreflightFailed";
  unknown.message =
      fmt::format("the preflight of mode {} could not be made: {}", kube::ToString(mode),
                  why == steps_.failing().end() ? std::string() : why->second);
  return unknown;
}

ModeChoice ModeChooser::Choose(const kube::ProxySettings& settings,
                               std::optional<kube::Mode> active) {
  // Of a mode that is not wanted any more, or has not its turn, nothing is tried again.
  for (const ModeTraits& traits : AllModes()) {
    for (const char* step : {"preflight of", "make"})
      steps_.Forget(step, kube::ToString(traits.mode));
  }
  ModeChoice choice;
  const auto pass_over = [&choice](kube::Mode mode, std::string_view why) {
    if (!choice.fallback_reason.empty()) choice.fallback_reason += "; ";
    choice.fallback_reason += fmt::format("{}: {}", kube::ToString(mode), why);
  };
  for (const kube::Mode mode : Allowed(settings)) {
    const bool runs = active == mode;
    bool made = false;
    PreflightResult result = Preflight(mode, settings, made);
    if (runs) PassWhatRuns(mode, result);
    choice.preflights_made = choice.preflights_made && made;
    if (mode == settings.mode) choice.preflight = result;
    // What runs is not left because its preflight could not be made.
    if (!result.passed && !(runs && !made)) {
      pass_over(mode, result.message);
      continue;
    }
    SyncResult base = shared_base_.Ensure(settings, mode);
    if (!FailedAsAWhole(base.problems, environment_.Families())) {
      choice.mode = mode;
      choice.preflight_again = mode != settings.mode || !made;
      choice.shared_rules_problems.clear();
      return choice;
    }
    choice.shared_rules_problems = std::move(base.problems);
    if (runs) break;
    pass_over(mode,
              "the shared rules could not be written: " + Describe(choice.shared_rules_problems));
  }
  choice.preflight_again = choice.shared_rules_problems.empty();
  return choice;
}

std::optional<kube::Mode> ModeChooser::ChooseMeanwhile(const kube::ProxySettings& settings,
                                                       kube::Mode awaited) {
  kube::ProxySettings others = settings;
  std::erase(others.fallback_modes, awaited);
  if (others.fallback_modes.empty()) return std::nullopt;
  others.mode = others.fallback_modes.front();
  return Choose(others, std::nullopt).mode;
}

}  // namespace pointsman::agent
