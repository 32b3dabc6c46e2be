#include "node-agent/handover/step_judge.h"

#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace pointsman::agent {
namespace {

// Probes and the watch are one step to whoever reads the metrics.
constexpr const char* kProbe = "probe";

std::string Worse(const std::vector<std::string>& of) {
  if (of.empty()) return "";
  return fmt::format("these no longer answered after the change: {}", fmt::join(of, ", "));
}

}  // namespace

StepJudge::Look StepJudge::Before(kube::Mode from, kube::Mode to, const ServiceModel& model) {
  back_to_.reset();
  looked_ = false;
  due_ = TimePoint::max();
  bool goes_on = false;
  const auto compared = steps_.Try(kProbe, "", [&]() -> size_t {
    goes_on = !environment_.Traffic().SeenEnough(model);
    return goes_on ? 0 : environment_.Traffic().Before(from, to, model);
  });
  if (!compared) {
    Stop();
    return Look::kFailed;
  }
  if (goes_on) {
    due_ = environment_.Now() + kPoll;
    return Look::kGoesOn;
  }
  compared_ = *compared;
  looked_ = true;
  return Look::kDone;
}

std::string StepJudge::AfterStep(kube::Mode back_to) {
  looked_ = false;
  const auto failed = steps_.Try(kProbe, "", [&] { return environment_.Traffic().AfterSwitch(); });
  std::string worse =
      failed ? Worse(*failed) : "Services could not be probed: " + steps_.failing().at(kProbe);
  if (!worse.empty()) {
    Stop();
    return worse;
  }
  back_to_ = back_to;
  due_ = environment_.Now();
  return worse;
}

std::optional<std::string> StepJudge::Watch(const ServiceModel& model) {
  bool goes_on = false;
  figures_ = {};
  const auto worse = steps_.Try(kProbe, "", [&] {
    const auto verdict = environment_.Traffic().Verdict(model);
    goes_on = !verdict;
    if (verdict && verdict->empty()) figures_ = environment_.Traffic().Figures();
    return verdict ? Worse(*verdict) : std::string();
  });
  if (goes_on) {
    due_ = environment_.Now() + kPoll;
    return std::nullopt;
  }
  Stop();
  if (!worse) ForgetFailure();
  return worse.value_or("");
}

void StepJudge::ForgetFailure() {
  steps_.Forget(kProbe, "");
}

void StepJudge::Stop() {
  // What it throws would only mean that it looks on.
  steps_.TryTo("stop watching", "", [this] { environment_.Traffic().Stop(); });
  compared_ = 0;
  looked_ = false;
  back_to_.reset();
  due_ = TimePoint::max();
}

}  // namespace pointsman::agent
