#include "node-agent/handover/mode_controller.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/affinity_handover.h"
#include "node-agent/handover/guarded.h"

namespace pointsman::agent {

kube::Duration ModeController::ActiveSyncPeriod() const {
  return state_.active ? TraitsOf(*state_.active).sync_period(active_settings_)
                       : kube::Duration(std::chrono::seconds(30));
}

bool ModeController::Failed(const std::vector<SyncProblem>& problems) const {
  return FailedAsAWhole(problems, environment_.Families());
}

void ModeController::SetProblems(std::vector<SyncProblem> problems) {
  state_.failed = Failed(problems);
  state_.problems = std::move(problems);
}

// The settings are not in effect yet: the revision is not applied.
void ModeController::Unfinished(const std::string& why) {
  state_.unfinished = why;
  next_choice_ = environment_.Now() + choice_back_off_.Next(kRetry, kLongestRetry);
}

// The mode that is to run. Without one, why not is in the state, and when it is tried again.
std::optional<kube::Mode> ModeController::Choose(const kube::ProxySettings& settings) {
  ModeChoice choice = chooser_.Choose(settings, state_.active);
  state_.preflight = choice.preflight;
  state_.fallback_reason = choice.fallback_reason;
  next_choice_ = TimePoint::max();
  if (choice.preflight_again) {
    // A preflight that could not be made may have taken seconds, in which no change was written; if
    // there is anything to write.
    const bool seldom = !choice.preflights_made && active_ != nullptr;
    if (!seldom) preflight_back_off_.Reset();
    next_choice_ =
        environment_.Now() + (seldom ? preflight_back_off_.Next(kPreflightRetry, kLongestRetry)
                                     : BackOff::Duration(kPreflightRetry));
  } else if (choice.mode) {
    preflight_back_off_.Reset();
  }
  if (choice.mode) return choice.mode;
  if (!choice.shared_rules_problems.empty()) {
    state_.fallback_reason.clear();
    SetProblems(std::move(choice.shared_rules_problems));
    next_choice_ = environment_.Now() + kRetry;
    if (active_ != nullptr) next_resync_ = std::min(next_resync_, next_choice_);
    return std::nullopt;
  }
  // What runs goes on running.
  spdlog::error("no mode can run on this node: {}", choice.fallback_reason);
  if (active_ == nullptr)
    SetProblems({{"node", "no mode can run on this node: " + choice.fallback_reason}});
  return std::nullopt;
}

// A restarted agent finds the modes of its predecessor in the kernel. If it is only the desired
// mode, FullSync adopts it. If another is present, the agent ended in the middle of a handover, and
// it is not known where: the handover is done again from the start, which leaves alone what is done
// already.
void ModeController::AdoptWhatIsThere(const kube::ProxySettings& settings) {
  adopted_ = true;
  for (const ModeTraits& traits : AllModes()) {
    const kube::Mode mode = traits.mode;
    auto found = steps_.Try("look for", kube::ToString(mode),
                            [&] { return environment_.FindInKernel(mode, settings); });
    if (!found) {
      not_looked_for_.push_back(mode);
      next_look_ = environment_.Now() + look_back_off_.Next(kRetry, kLongestRetry);
    } else if (*found != nullptr) {
      Adopt(std::move(*found), settings);
    }
  }
}

void ModeController::Adopt(std::unique_ptr<Dataplane> dataplane,
                           const kube::ProxySettings& settings) {
  const kube::Mode mode = dataplane->mode();
  spdlog::info("found {} rules of an earlier run in the kernel", kube::ToString(mode));
  if (active_ == nullptr || active_->mode() == settings.mode) {
    if (active_ != nullptr) broken_off_ = active_->mode();
    active_ = std::move(dataplane);  // the desired one comes back by the handover
    active_settings_ = settings;
    made_generation_ = environment_.Generation();
    state_.active = mode;
  } else if (mode != settings.mode) {
    leftovers_.Add(std::move(dataplane), environment_.Now());  // only two modes at a time
  } else {
    broken_off_ = mode;
  }
}

// For what AdoptWhatIsThere could not. Meanwhile another mode may serve; then this one drains, as
// after a handover.
void ModeController::LookAgain(const ServiceModel& model) {
  next_look_ = TimePoint::max();
  std::erase_if(not_looked_for_, [&](kube::Mode mode) {
    if (active_ != nullptr && active_->mode() == mode) {
      steps_.Forget("look for", kube::ToString(mode));
      return true;
    }
    auto found = steps_.Try("look for", kube::ToString(mode),
                            [&] { return environment_.FindInKernel(mode, *settings_); });
    if (!found) {
      next_look_ = environment_.Now() + look_back_off_.Next(kRetry, kLongestRetry);
      return false;
    }
    if (*found == nullptr) return true;
    if (active_ != nullptr && !drain_.running()) {
      spdlog::info("found {} rules of an earlier run in the kernel", kube::ToString(mode));
      BeginDrain(std::move(*found), model);
    } else {
      Adopt(std::move(*found), *settings_);
    }
    return true;
  });
}

// The handover that was broken off is not done again: another mode was chosen. What is there of it
// may still get connections, and would send them where the Services were then.
void ModeController::EndBrokenOff(const ServiceModel& model) {
  if (!broken_off_ || active_ == nullptr || active_->mode() == *broken_off_) return;
  std::unique_ptr<Dataplane> there = Make(*broken_off_, *settings_);
  if (there == nullptr) {
    next_choice_ = std::min(next_choice_, environment_.Now() + kRetry);
    return;
  }
  spdlog::info("the handover to {} that was broken off is not gone on with",
               kube::ToString(*broken_off_));
  broken_off_.reset();
  if (drain_.running() || !state_.synced_once) {
    leftovers_.Add(std::move(there), environment_.Now());
  } else {
    BeginDrain(std::move(there), model);
  }
}

// Null: it could not be made, which is in the steps.
std::unique_ptr<Dataplane> ModeController::Make(kube::Mode mode,
                                                const kube::ProxySettings& settings) {
  auto made = steps_.Try("make", kube::ToString(mode),
                         [&] { return environment_.MakeDataplane(mode, settings); });
  return made ? std::move(*made) : nullptr;
}

// The kernel's state is the only state: a new dataplane adopts what the one before it wrote.
bool ModeController::RemakeActive(const kube::ProxySettings& settings) {
  const uint64_t generation = environment_.Generation();
  auto made = Make(active_->mode(), settings);
  if (made == nullptr) return false;
  active_ = std::move(made);
  active_settings_ = settings;
  made_generation_ = generation;
  threw_in_a_row_ = 0;
  return true;
}

void ModeController::Apply(const kube::ProxySettings& settings, const ServiceModel& model) {
  const bool news = !settings_ || !(*settings_ == settings);
  if (news) {
    state_.reverted_reason.clear();
    went_back_.Reset();
    choice_back_off_.Reset();
  }
  const bool rebuild = std::exchange(rebuild_, false);
  const bool changed = news || rebuild || !state_.unfinished.empty();
  settings_ = settings;
  state_.desired = settings.mode;
  state_.unfinished.clear();
  if (!adopted_) AdoptWhatIsThere(settings);

  const std::string reported = state_.fallback_reason;
  const std::optional<kube::Mode> chosen = Choose(settings);
  if (looks_for_ && looks_for_ != chosen) StopLooking();
  if (announcements_.awaited() != chosen) StopWaiting();
  if (!chosen) {
    rebuild_ = changed;  // what is new in the settings is still to be given to a dataplane
    return;
  }
  if (*chosen != settings.mode && state_.fallback_reason != reported) {
    spdlog::warn("{} runs instead of {}: {}", kube::ToString(*chosen),
                 kube::ToString(settings.mode), state_.fallback_reason);
  }
  if (active_ == nullptr || active_->mode() != *chosen) {
    HandOver(*chosen, model);
    if (broken_off_ != *chosen) EndBrokenOff(model);
    return;
  }
  if (!changed && state_.synced_once && !need_full_sync_) {
    EndBrokenOff(model);
    return;
  }
  const bool remake =
      rebuild || !(active_settings_ == settings) || made_generation_ != environment_.Generation();
  if (remake && !RemakeActive(settings)) {
    rebuild_ = true;
    Unfinished(
        fmt::format("{} could not be set up with the new settings", kube::ToString(*chosen)));
    return;
  }
  if (Program(*active_, model, /*verify=*/true)) choice_back_off_.Reset();
  EndBrokenOff(model);
}

// The old dataplane stops attracting new connections; returns what worked before and does not now,
// "" if nothing.
std::string ModeController::MoveNewConnections(Dataplane& next, const ServiceModel& model) {
  try {
    active_->Drain(model);
  } catch (const std::exception& error) {
    return fmt::format("{} could not be drained: {}", kube::ToString(active_->mode()),
                       error.what());
  }
  try {
    next.TakeOver();
  } catch (const std::exception& error) {
    return fmt::format("{} could not take new connections over: {}", kube::ToString(next.mode()),
                       error.what());
  }
  return judge_.AfterStep(active_->mode());
}

// What is read back and differs, but for families whose problem is known already.
std::vector<SyncProblem> ModeController::Differences(Dataplane& dataplane,
                                                     const ServiceModel& model,
                                                     const std::vector<SyncProblem>& known) {
  VerifyResult read_back;
  try {
    read_back = dataplane.Verify(model);
  } catch (const std::exception& error) {
    return {{std::string(kube::ToString(dataplane.mode())), error.what()}};
  }
  if (read_back.ok()) return {};
  std::vector<SyncProblem> differences = std::move(read_back.differences);
  if (differences.empty()) {
    differences.push_back({"kernel", fmt::format("{} objects differ from what was written",
                                                 read_back.difference_count)});
  }
  const std::vector<net::Family> failed = FamiliesOf(known);
  std::erase_if(differences, [&](const SyncProblem& problem) {
    return problem.family &&
           std::find(failed.begin(), failed.end(), *problem.family) != failed.end();
  });
  return differences;
}

// Returns whether the kernel holds the model: all of it, but for a family that cannot be served and
// for what single Services were refused.
bool ModeController::Program(Dataplane& dataplane, const ServiceModel& model, bool verify,
                             const std::vector<ClientBinding>& bindings) {
  SyncResult result;
  bool threw = false;
  try {
    result = dataplane.FullSync(model);
  } catch (const std::exception& error) {
    result.problems.push_back({std::string(kube::ToString(dataplane.mode())), error.what()});
    threw = true;
  }
  if (!model.entries.empty() && result.refusals.entries() >= model.entries.size()) {
    result.problems.push_back(
        {std::string(kube::ToString(dataplane.mode())),
         "every Service was refused, for example " + result.refusals.Warnings().front().message});
  }
  // Before all else: in some modes new connections come already.
  if (!Failed(result.problems)) WriteBindings(dataplane, model, bindings);
  if (!Failed(result.problems) && verify) {
    for (SyncProblem& problem : Differences(dataplane, model, result.problems))
      result.problems.push_back(std::move(problem));
  }
  ++state_.full_syncs;
  state_.repaired += result.repaired;
  if (!result.ok()) {
    spdlog::error("{}: {} problems: {}", kube::ToString(dataplane.mode()), result.problems.size(),
                  Describe(result.problems));
  }
  result.problems.insert(result.problems.begin(), base_.problems().begin(), base_.problems().end());
  SetProblems(std::move(result.problems));
  if (!state_.failed) {
    mode_warnings_ = std::move(result.warnings);
    refusals_ = std::move(result.refusals);
    ShowWarnings();
    state_.rules = std::move(result.rules);
  }
  if (&dataplane == active_.get()) {
    threw_in_a_row_ = threw ? threw_in_a_row_ + 1 : 0;
    need_full_sync_ = state_.failed;
    if (!state_.failed) state_.synced_once = true;
    if (!state_.failed) not_served_ = FamiliesOf(state_.problems);
    ScheduleResync(!refusals_.empty());
    WatchCanaries();
  }
  return !state_.failed;
}

void ModeController::ShowWarnings() {
  state_.warnings = refusals_.Warnings();
  state_.warnings.insert(state_.warnings.end(), mode_warnings_.begin(), mode_warnings_.end());
  std::sort(state_.warnings.begin(), state_.warnings.end());
  state_.refused_entries = refusals_.entries();
}

// After a full sync. What only one family or one Service was refused is tried again ever more
// seldom: it may be so for good, and a full sync costs the others something.
void ModeController::ScheduleResync(bool refused) {
  TimePoint::duration wait = ActiveSyncPeriod();
  if (state_.failed) {
    wait = kRetry;
  } else if (!state_.problems.empty() || refused) {
    wait = std::min(wait, resync_back_off_.Next(kRetry, wait));
  } else {
    resync_back_off_.Reset();
  }
  next_resync_ = environment_.Now() + wait;
}

// Families that the active mode serves and the one just programmed does not.
std::string ModeController::NoLongerServed() const {
  std::string lost;
  for (const SyncProblem& problem : state_.problems) {
    if (!problem.family) continue;
    if (std::find(not_served_.begin(), not_served_.end(), *problem.family) != not_served_.end())
      continue;
    lost = fmt::format("{} would no longer be served: {}", net::ToString(*problem.family),
                       Describe({problem}));
    break;
  }
  return lost;
}

void ModeController::HandOver(kube::Mode mode, const ServiceModel& model, bool old_mode_ends) {
  if (!old_mode_ends && !OthersAreReady(mode, model)) return;
  if (active_ != nullptr && !old_mode_ends && !LookedBefore(mode, model)) return;
  std::vector<ClientBinding> bindings;
  std::unique_ptr<Dataplane> next = Make(mode, *settings_);
  if (next == nullptr) {
    const std::string why = fmt::format("{} could not be set up", kube::ToString(mode));
    if (active_ == nullptr) SetProblems({{std::string(kube::ToString(mode)), why}});
    judge_.Stop();
    Unfinished(why);
    return;
  }
  if (drain_.mode() == mode) {
    drain_.Abandon();  // a move back: it serves again, with the connections it still has
    ShowDrain();
  } else if (drain_.running()) {
    EndDrain();  // only two modes at a time: the oldest goes now
  }
  leftovers_.Forget(mode);
  if (broken_off_ == mode) broken_off_.reset();
  if (active_ != nullptr) {
    bindings = ReadBindings(*active_, model);
    spdlog::info("handover {} -> {} begins; {} things work that are compared",
                 kube::ToString(active_->mode()), kube::ToString(mode), judge_.compared());
  }
  const bool programmed = Program(*next, model, /*verify=*/true, bindings);
  if (active_ != nullptr) {
    std::string failed;
    if (!programmed) {
      failed = "it could not be programmed: " + Describe(state_.problems);
    } else if (!old_mode_ends) {
      failed = NoLongerServed();
      if (failed.empty()) failed = MoveNewConnections(*next, model);
    }
    if (!failed.empty()) {
      Revert(std::move(next), failed, model);
      return;
    }
  }

  std::unique_ptr<Dataplane> before = std::exchange(active_, std::move(next));
  active_settings_ = *settings_;
  made_generation_ = environment_.Generation();
  choice_back_off_.Reset();
  state_.active = mode;
  if (announcements_.awaited() == mode) StopWaiting();
  state_.reverted_reason.clear();
  state_.synced_once = programmed;
  need_full_sync_ = !programmed;
  threw_in_a_row_ = 0;
  not_served_ = FamiliesOf(state_.problems);
  resync_back_off_.Reset();
  ScheduleResync(!refusals_.empty());
  WatchCanaries();
  if (before == nullptr) {
    spdlog::info("{} serves {} Services with {} endpoints", kube::ToString(mode),
                 model.service_count, model.endpoint_count);
    return;
  }
  ++state_.handovers[{before->mode(), mode}];
  drain_judged_ = !old_mode_ends;
  BeginDrain(std::move(before), model);
  spdlog::info(
      "{} serves new connections; {} keeps {} established ones until they end, for at most {} s",
      kube::ToString(mode), state_.draining ? kube::ToString(*state_.draining) : "nothing",
      state_.draining_connections,
      std::chrono::duration_cast<std::chrono::seconds>(settings_->drain_timeout).count());
}

void ModeController::Revert(std::unique_ptr<Dataplane> next, const std::string& failed,
                            const ServiceModel& model) {
  const kube::Mode mode = next->mode();
  ++state_.reverts;
  judge_.Stop();
  spdlog::error("handover to {} reverted: {}", kube::ToString(mode), failed);
  // First the old one attracts new connections again, then the new one goes.
  Program(*active_, model, /*verify=*/true);
  if (!leftovers_.Remove(*next)) leftovers_.AddFailed(std::move(next), environment_.Now());
  state_.reverted_reason =
      fmt::format("handover to {} was reverted: {}", kube::ToString(mode), failed);
  next_choice_ = environment_.Now() + kRevertedRetry;
}

void ModeController::BeginDrain(std::unique_ptr<Dataplane> dataplane, const ServiceModel& model) {
  drain_.Begin(std::move(dataplane), environment_.Now() + settings_->drain_timeout);
  ShowDrain();
  if (judge_.back_to()) WatchStep(model);
  if (drain_.running()) PollDrain(model);
}

void ModeController::EndDrain() {
  if (drain_.End()) RenewAfterRemoval();
  ShowDrain();
}

void ModeController::ShowDrain() {
  state_.draining = drain_.mode();
  state_.draining_connections = drain_.connections();
  state_.drained = drain_.drained();
  state_.toll.cut_connections = drain_.drained().cut;
}

// What both modes need and each undoes when it goes (route_localnet) is set again at once.
void ModeController::RenewAfterRemoval() {
  if (active_ == nullptr || need_full_sync_) return;
  next_resync_ = environment_.Now();
  removed_other_ = true;
}

void ModeController::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (active_ == nullptr || delta.empty()) return;
  if (need_full_sync_ || delta.node_changed) {
    Resync(model, delta.node_changed);
    return;
  }
  ++state_.syncs;
  SyncResult result =
      Guarded(kube::ToString(active_->mode()), [&] { return active_->Sync(model, delta); });
  if (Failed(result.problems)) {
    spdlog::error("{}: a change left {} problems, a full sync follows: {}",
                  kube::ToString(active_->mode()), result.problems.size(),
                  Describe(result.problems));
    SetProblems(std::move(result.problems));
    need_full_sync_ = true;
    canaries_.Stop();
    next_resync_ = environment_.Now() + kRetry;
    return;
  }
  for (const EntryChange& change : delta.changes) {
    if (change.before) refusals_.Forget(change.before->id);
    if (change.after) refusals_.Forget(change.after->id);
  }
  const bool refused = !result.refusals.empty();
  refusals_.Add(std::move(result.refusals));
  mode_warnings_ = std::move(result.warnings);
  ShowWarnings();
  const bool news = !result.ok() && state_.problems.empty();
  result.problems.insert(result.problems.begin(), base_.problems().begin(), base_.problems().end());
  SetProblems(std::move(result.problems));
  if (news || refused) {
    next_resync_ = std::min(next_resync_, environment_.Now() + kRetry);
    spdlog::warn("{}: a change left {} problems and {} Service ports refused in part",
                 kube::ToString(active_->mode()), state_.problems.size(), refusals_.entries());
  }
}

void ModeController::ResyncNow() {
  if (active_ == nullptr || need_full_sync_) return;
  next_resync_ = environment_.Now();
  removed_other_ = true;
}

void ModeController::Resync(const ServiceModel& model, bool own_change) {
  const SyncResult base = base_.Ensure(active_settings_, active_->mode());
  if (base.repaired > 0) spdlog::warn("repaired {} of the shared rules", base.repaired);
  state_.repaired += base.repaired;
  // A restart would do no more: after several times it may be the process that is at fault.
  if (made_generation_ != environment_.Generation() || threw_in_a_row_ >= kThrewTooOften)
    RemakeActive(active_settings_);
  const uint64_t repaired_before = state_.repaired;
  Program(*active_, model, /*verify=*/false);
  // What was written for it cannot be told from what was repaired.
  if (own_change) state_.repaired = repaired_before;
  if (state_.repaired > repaired_before) {
    spdlog::warn("{}: repaired {} objects that something else had changed",
                 kube::ToString(active_->mode()), state_.repaired - repaired_before);
  }
  if (Failed(base.problems)) {
    std::vector<SyncProblem> problems = state_.problems;
    problems.insert(problems.end(), base.problems.begin(), base.problems.end());
    SetProblems(std::move(problems));
    next_resync_ = environment_.Now() + kRetry;
  }
}

std::optional<Canaries::Names> ModeController::LookForCanaries() {
  return steps_.Try("look for rules", "", [&] { return environment_.CanariesOf(active_->mode()); });
}

// After a full sync. Where the next one comes as soon as a look would, none is taken.
void ModeController::WatchCanaries() {
  RenewAnnouncement();
  if (!need_full_sync_ && ActiveSyncPeriod() > Canaries::kPeriod)
    return canaries_.Begin(LookForCanaries(), environment_.Now());
  canaries_.Stop();
  steps_.Forget("look for rules", "");
}

void ModeController::MissCanaries(const ServiceModel& model) {
  RenewAnnouncement();
  const auto missing = canaries_.Missing(LookForCanaries(), environment_.Now());
  if (missing.empty()) return;
  spdlog::warn(
      "{}: removed from the kernel by something else: {}; comparing and writing all of it again",
      kube::ToString(active_->mode()), fmt::join(missing, ", "));
  Resync(model);
}

void ModeController::Tick(const ServiceModel& model) {
  const TimePoint now = environment_.Now();
  if (settings_ && now >= next_look_) LookAgain(model);
  if (settings_ && now >= next_choice_) Apply(*settings_, model);
  if (now >= announcements_.due()) HandOver(*announcements_.awaited(), model);
  if (active_ != nullptr && now >= ResyncDue()) Resync(model, std::exchange(removed_other_, false));
  if (active_ != nullptr && now >= canaries_.due()) MissCanaries(model);
  if (now >= judge_.due()) JudgeStep(model);
  if (now >= drain_.due()) PollDrain(model);
  // Never before another mode serves.
  if (state_.synced_once && now >= leftovers_.due() && leftovers_.RemoveAll(now))
    RenewAfterRemoval();
  // A handover that is about to be tried again needs it.
  if (adopted_ && state_.unfinished.empty()) WithdrawAnnouncements();
}

ModeController::TimePoint ModeController::ResyncDue() const {
  // After a failure the retry's own pace counts.
  if (active_ == nullptr || need_full_sync_) return next_resync_;
  return std::min(next_resync_, active_->FullSyncDue());
}

ModeController::TimePoint ModeController::NextDeadline() const {
  const TimePoint leftovers = state_.synced_once ? leftovers_.due() : TimePoint::max();
  return std::min({next_choice_, ResyncDue(), canaries_.due(), drain_.due(), next_look_, leftovers,
                   judge_.due(), announcements_.due()});
}

bool ModeController::LeaveToKernel(const ServiceModel& model, std::chrono::seconds longest) {
  if (active_ != nullptr && active_->mode() == kube::Mode::kUserspace && settings_) {
    kube::ProxySettings settings = *settings_;
    settings.mode = kube::Mode::kIptables;
    settings.fallback_modes.clear();
    bool made = false;
    const PreflightResult preflight = chooser_.Preflight(kube::Mode::kIptables, settings, made);
    if (preflight.passed) {
      settings_ = settings;
      StopLooking();
      StopWaiting();
      HandOver(kube::Mode::kIptables, model, /*old_mode_ends=*/true);
    } else {
      spdlog::error("userspace mode ends and no mode replaces it: {}", preflight.message);
    }
    next_choice_ = TimePoint::max();
    if (active_->mode() == kube::Mode::kIptables) {
      state_.fallback_reason =
          "the agent ends, and userspace mode's forwarder with it; the next agent goes back";
    }
  }
  if (drain_.mode() != kube::Mode::kUserspace) return false;
  drain_judged_ = false;
  drain_.EndBy(environment_.Now() + longest);
  return true;
}

std::vector<SyncProblem> ModeController::RemoveAll() {
  const kube::ProxySettings settings = settings_.value_or(kube::ProxySettings{});
  std::vector<SyncProblem> problems;
  const auto remove = [&problems](std::string_view what, const auto& call) {
    SyncResult result = Guarded(what, call);
    std::move(result.problems.begin(), result.problems.end(), std::back_inserter(problems));
  };
  for (const ModeTraits& traits : AllModes()) {
    const kube::Mode mode = traits.mode;
    remove(kube::ToString(mode), [&] {
      // The one that is there minds what it runs: it would start a forwarder again that another
      // one ends.
      for (Dataplane* mine : {active_.get(), drain_.dataplane()}) {
        if (mine != nullptr && mine->mode() == mode) return mine->Remove();
      }
      const auto dataplane = environment_.FindInKernel(mode, settings);
      return dataplane == nullptr ? SyncResult{} : dataplane->Remove();
    });
    // What others go by is the last that goes of a mode.
    if (problems.empty()) {
      remove("what others on the node were told", [&] {
        announcements_.Withdraw(mode);
        return SyncResult{};
      });
    }
  }
  remove("the shared rules", [&] { return environment_.RemoveBase(settings); });
  if (!problems.empty()) {
    SetProblems(problems);
    return problems;
  }
  active_.reset();
  drain_.Abandon();
  StopLooking();
  StopWaiting();
  settings_.reset();
  steps_ = Steps(steps_.failures());
  state_ = ModeState{.drained = drain_.drained(),
                     .handovers = std::move(state_.handovers),
                     .reverts = state_.reverts,
                     .toll = state_.toll,
                     .repaired = state_.repaired};
  leftovers_.clear();
  not_looked_for_.clear();
  broken_off_.reset();
  not_served_.clear();
  base_.ForgetProblems();
  refusals_.clear();
  next_resync_ = next_choice_ = next_look_ = TimePoint::max();
  need_full_sync_ = false;
  canaries_.Stop();
  return problems;
}

}  // namespace pointsman::agent
