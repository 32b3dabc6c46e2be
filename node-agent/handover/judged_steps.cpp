// ModeController: the steps of a handover that are judged by the traffic, and the way back.
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/handover/mode_controller.h"

namespace pointsman::agent {

// False: the handover waits until the traffic has been looked at, which Tick goes on with, or is
// tried again.
bool ModeController::LookedBefore(kube::Mode mode, const ServiceModel& model) {
  switch (judge_.Before(active_->mode(), mode, model)) {
    case StepJudge::Look::kGoesOn:
      looks_for_ = mode;
      state_.watching = fmt::format("clients' connections are watched before the handover to {}",
                                    kube::ToString(mode));
      return false;
    case StepJudge::Look::kFailed:
      StopLooking();
      Unfinished(fmt::format("the handover to {} waits until Services can be probed",
                             kube::ToString(mode)));
      return false;
    case StepJudge::Look::kDone:
      break;
  }
  looks_for_.reset();
  state_.watching.clear();
  return true;
}

void ModeController::StopLooking() {
  judge_.Stop();
  looks_for_.reset();
  state_.watching.clear();
}

void ModeController::JudgeStep(const ServiceModel& model) {
  if (looks_for_) {
    HandOver(*looks_for_, model);
  } else if (judge_.back_to()) {
    WatchStep(model);
  } else if (drain_.running()) {
    PollDrain(model);
  } else {
    judge_.Stop();
  }
}

void ModeController::WatchStep(const ServiceModel& model) {
  const kube::Mode back_to = *judge_.back_to();
  const std::optional<std::string> worse = judge_.Watch(model);
  if (!worse) {
    state_.watching = fmt::format("clients' connections are watched: {} serves them instead of {}",
                                  kube::ToString(active_->mode()), kube::ToString(back_to));
    return;
  }
  state_.watching.clear();
  if (worse->empty()) {
    state_.toll.traffic.Add(judge_.figures());
  } else {
    GoBack(back_to, *worse, model);
  }
}

// What the old mode's rules did for the new one ends with them (accepting what FORWARD's policy
// drops), so the removal is a step of its own, and none before the switch is judged.
bool ModeController::MayEndDrain(const ServiceModel& model) {
  if (!drain_judged_) return true;
  if (judge_.back_to() || looks_for_) return false;
  switch (judge_.Before(active_->mode(), active_->mode(), model)) {
    case StepJudge::Look::kGoesOn:
      return false;
    case StepJudge::Look::kFailed:
      judge_.ForgetFailure();  // it is removed unjudged: its time is up
      break;
    case StepJudge::Look::kDone:
      break;
  }
  return true;
}

void ModeController::PollDrain(const ServiceModel& model) {
  const kube::Mode removed = *drain_.mode();
  const bool gone = drain_.Poll(model, [&] { return MayEndDrain(model); });
  ShowDrain();
  if (gone) RenewAfterRemoval();
  if (!judge_.looked()) return;
  if (!gone) {  // it could not be removed
    judge_.Stop();
    return;
  }
  const std::string worse = judge_.AfterStep(removed);
  if (!worse.empty()) {
    GoBack(removed, worse, model);
  } else {
    WatchStep(model);
  }
}

// While the mode before drains it only has to serve again, with the connections that it kept. Once
// it is removed this is a handover like another, but that nothing is compared: what serves is known
// to be worse. What the new mode has got meanwhile drains.
void ModeController::GoBack(kube::Mode to, const std::string& worse, const ServiceModel& model) {
  const kube::Mode from = active_->mode();
  spdlog::error("going back from {} to {}: {}", kube::ToString(from), kube::ToString(to), worse);
  ++state_.reverts;
  base_.Ensure(*settings_, to);
  HandOver(to, model, /*old_mode_ends=*/true);
  if (active_->mode() == to) {
    if (!steps_.TryTo("take over", "", [this] { active_->TakeOver(); })) {
      steps_.Forget("take over", "");
      next_resync_ = environment_.Now() + kRetry;  // a full sync does it too
    }
    state_.reverted_reason =
        fmt::format("handover to {} was reverted: {}", kube::ToString(from), worse);
  } else {
    state_.reverted_reason = fmt::format("{} serves worse than {} did, and going back failed: {}{}",
                                         kube::ToString(from), kube::ToString(to), worse,
                                         state_.unfinished.empty() ? "" : "; " + state_.unfinished);
  }
  // Each try cuts clients off for as long as it takes to see that.
  next_choice_ = environment_.Now() + went_back_.Next(kRevertedRetry, kLongestRevertedRetry);
}

}  // namespace pointsman::agent
