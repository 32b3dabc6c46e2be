// ModeController: others on the node that have to know of a mode, and to be ready for it.
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/handover/mode_controller.h"

namespace pointsman::agent {

// False: the handover waits until they are, which Tick asks, or it was given up.
bool ModeController::OthersAreReady(kube::Mode mode, const ServiceModel& model) {
  const bool waited = announcements_.awaited().has_value();
  const Announcements::Answer answer = announcements_.Ask(mode, *settings_);
  using Kind = Announcements::Answer::Kind;
  if (answer.kind == Kind::kWait) {
    if (looks_for_ == mode) StopLooking();  // what is seen now is not what it was right before
    state_.waits_for = answer.waits_for;
    if (active_ == nullptr && !waited) {
      // Nothing serves yet: what does meanwhile is another mode that is allowed.
      const auto other = chooser_.ChooseMeanwhile(*settings_, mode);
      if (other) HandOver(*other, model);
    }
    return false;
  }
  if (announcements_.awaited().value_or(mode) == mode) state_.waits_for.clear();
  // Without any mode those who need a Service for it can never be ready.
  if (answer.kind == Kind::kGo || active_ == nullptr) return true;
  const std::string why =
      fmt::format("after {} s {}", Announcements::kLongestWait.count(), answer.waits_for);
  // What is there of a handover that was broken off may have connections.
  std::unique_ptr<Dataplane> there = broken_off_ == mode ? Make(mode, *settings_) : nullptr;
  if (there != nullptr) {
    broken_off_.reset();
    Revert(std::move(there), why, model);
    return false;
  }
  ++state_.reverts;
  spdlog::error("handover to {} reverted: {}", kube::ToString(mode), why);
  state_.reverted_reason =
      fmt::format("handover to {} was reverted: {}", kube::ToString(mode), why);
  next_choice_ = environment_.Now() + kRevertedRetry;
  return false;
}

void ModeController::StopWaiting() {
  announcements_.StopWaiting();
  state_.waits_for.clear();
}

void ModeController::RenewAnnouncement() {
  state_.not_ready = announcements_.Renew(active_->mode(), active_settings_);
}

// Of modes that are gone from the kernel, however that came, and that are about to come neither:
// not in a handover that goes on, and not because the node goes back to one.
void ModeController::WithdrawAnnouncements() {
  std::vector<kube::Mode> here = not_looked_for_;
  for (const auto& mode :
       {broken_off_, looks_for_, judge_.back_to(), state_.active, drain_.mode()}) {
    if (mode) here.push_back(*mode);
  }
  for (const ModeTraits& traits : AllModes()) {
    if (leftovers_.Has(traits.mode)) here.push_back(traits.mode);
  }
  announcements_.WithdrawAllBut(here);
}

}  // namespace pointsman::agent
