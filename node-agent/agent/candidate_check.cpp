#include "node-agent/agent/candidate_check.h"

#include <vector>

#include <spdlog/fmt/fmt.h>

#include "node-agent/agent/stock_kube_proxy.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/preflight/neighbour_check.h"

namespace pointsman::agent {
namespace {

std::vector<kube::Mode> ModesOf(const kube::NodeProxyCandidate& candidate) {
  std::vector<kube::Mode> modes;
  modes.reserve(1 + candidate.fallback_modes.size());
  modes.push_back(candidate.mode);
  for (const kube::Mode mode : candidate.fallback_modes)
    modes.push_back(mode);
  return modes;
}

}  // namespace

bool CandidateCheck::Check(const kube::NodeProxySpec& spec) {
  if (asked_ != spec.candidate) back_off_.Reset();
  if (asked_ && asked_ != spec.candidate) {
    // Of a question that is not asked any more nothing is tried again.
    for (const kube::Mode mode : ModesOf(*asked_))
      steps_.Forget("answer for", kube::ToString(mode));
  }
  if (!spec.candidate) {
    answer_.reset();
    asked_.reset();
    retry_ = TimePoint::max();
    return false;
  }
  if (asked_ == spec.candidate && environment_.Now() < retry_) return false;
  kube::ProxySettings settings = spec.settings;
  settings.modules = spec.candidate->modules;
  settings.neighbours = spec.candidate->neighbours;
  settings.ipvs.scheduler = spec.candidate->ipvs_scheduler;
  bool all_answered = true;
  answer_ = Answer(*spec.candidate, settings, all_answered);
  retry_ = all_answered ? TimePoint::max()
                        : environment_.Now() + back_off_.Next(ModeController::kPreflightRetry,
                                                              ModeController::kLongestRetry);
  asked_ = spec.candidate;
  return true;
}

kube::CandidateStatus CandidateCheck::Answer(const kube::NodeProxyCandidate& candidate,
                                             kube::ProxySettings settings, bool& all_answered) {
  const bool stock = candidate.provider == kube::Provider::kKubeProxy;
  kube::CandidateStatus answer;
  answer.revision = candidate.revision;
  answer.provider = candidate.provider;
  for (const kube::Mode mode : ModesOf(candidate)) {
    // What cannot be answered is a "no" for now, and no reason to leave what runs.
    settings.mode = mode;
    const auto tried = steps_.Try("answer for", kube::ToString(mode), [&] {
      return stock ? PreflightOfKubeProxy(environment_, settings)
                   : environment_.Preflight(mode, settings, /*load=*/false);
    });
    all_answered = all_answered && tried.has_value();
    PreflightResult result = tried.value_or(PreflightResult{
        .message = fmt::format("the preflight of mode {} could not be made; the agent's log and "
                               "the node's condition Degraded say why",
                               kube::ToString(mode))});
    if (!stock && modes_.active == mode) PassWhatRuns(mode, result);
    if (mode == candidate.mode) {
      answer.passed = result.passed;
      answer.message = result.message;
    }
    if (result.passed) {
      answer.mode = kube::ToString(mode);
      break;
    }
  }
  return answer;
}

}  // namespace pointsman::agent
