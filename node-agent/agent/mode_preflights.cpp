#include "node-agent/agent/mode_preflights.h"

#include <array>
#include <exception>

#include <spdlog/spdlog.h>

#include "node-agent/preflight/neighbour_check.h"

namespace pointsman::agent {
namespace {

constexpr std::array kEveryMode{kube::Mode::kUserspace, kube::Mode::kIptables, kube::Mode::kIpvs,
                                kube::Mode::kNftables};

}  // namespace

kube::ModePreflight ModePreflights::Answer(kube::Mode mode,
                                           const kube::ProxySettings& settings) const {
  kube::ModePreflight answer;
  answer.mode = kube::ToString(mode);
  try {
    PreflightResult result = environment_.Preflight(mode, settings, /*load=*/false);
    if (modes_.active == mode) PassWhatRuns(mode, result);
    answer.passed = result.passed;
    answer.reason = result.reason;
    answer.message = result.message;
  } catch (const std::exception& error) {
    // Nobody waits for this mode, so nothing has failed; the next look may tell.
    spdlog::warn("whether mode {} could run here is not known: {}", answer.mode, error.what());
    answer.reason = "PreflightFailed";
    answer.message = std::string("the preflight could not be made: ") + error.what();
  }
  return answer;
}

void ModePreflights::Look(const kube::ProxySettings& settings) {
  Basis basis{settings.ipvs.scheduler, settings.modules, settings.neighbours, modes_.active};
  if (basis_ == basis && environment_.Now() < due_) return;
  basis_ = std::move(basis);
  due_ = environment_.Now() + kPeriod;
  answers_.clear();
  for (const kube::Mode mode : kEveryMode)
    answers_.push_back(Answer(mode, settings));
}

}  // namespace pointsman::agent
