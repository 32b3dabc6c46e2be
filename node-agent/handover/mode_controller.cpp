#include "node-agent/handover/mode_controller.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/dataplane/sync_problems.h"

namespace pointsman::agent {
namespace {

// What `call` throws becomes a problem of the result.
template <typename Call>
SyncResult Guarded(std::string_view object, const Call& call) {
  try {
    return call();
  } catch (const std::exception& error) {
    return {.problems = {{std::string(object), error.what()}}};
  }
}

}  // namespace

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

// What the agent was told to do and has not done: the revision is not applied.
void ModeController::Unfinished(const std::string& why) {
  state_.unfinished = why;
  next_choice_ = environment_.Now() + choice_back_off_.Next(kRetry, kLongestRetry);
}

PreflightResult ModeController::AskPreflight(kube::Mode mode, const kube::ProxySettings& settings,
                                             bool& asked) {
  std::optional<PreflightResult> result = steps_.Try("preflight of", kube::ToString(mode), [&] {
    return environment_.Preflight(mode, settings, /*load=*/true);
  });
  asked = result.has_value();
  if (asked) return *std::move(result);
  const auto why = steps_.failing().find(fmt::format("preflight of {}", kube::ToString(mode)));
  PreflightResult unknown;
  unknown.reason = "PreflightFailed";
  unknown.message =
      fmt::format("the preflight of mode {} could not be made: {}", kube::ToString(mode),
                  why == steps_.failing().end() ? std::string() : why->second);
  return unknown;
}

// A family's problem stays with base_problems_; other problems are in the result too.
SyncResult ModeController::EnsureBase(const kube::ProxySettings& settings, kube::Mode mode) {
  kube::ProxySettings of_mode = settings;
  of_mode.mode = mode;
  SyncResult base =
      Guarded("the shared masquerade rules", [&] { return environment_.EnsureBase(of_mode); });
  const bool news = base.problems.size() != base_problems_.size();
  base_problems_.clear();
  if (base.ok()) return base;
  if (!Failed(base.problems)) base_problems_ = base.problems;
  if (news) spdlog::error("the shared rules could not be written: {}", Describe(base.problems));
  return base;
}

// The first mode that can run here. With it, state_.fallback_reason has why not those before it.
std::optional<kube::Mode> ModeController::Choose(const kube::ProxySettings& settings) {
  std::vector<kube::Mode> modes{settings.mode};
  for (const kube::Mode mode : settings.fallback_modes) {
    if (std::find(modes.begin(), modes.end(), mode) == modes.end()) modes.push_back(mode);
  }
  state_.fallback_reason.clear();
  next_choice_ = TimePoint::max();
  // Of a mode that is not wanted any more, or has not its turn, nothing is tried again.
  for (const ModeTraits& traits : AllModes()) {
    for (const char* step : {"preflight of", "make"})
      steps_.Forget(step, kube::ToString(traits.mode));
  }
  std::string reasons;
  std::vector<SyncProblem> base_problems;
  const auto pass_by = [&](kube::Mode mode, const std::string& why) {
    if (!reasons.empty()) reasons += "; ";
    reasons += fmt::format("{}: {}", kube::ToString(mode), why);
  };
  bool all_asked = true;
  const auto ask_again = [&] {
    // What could not be asked may have taken seconds, in which no change was written; if there is
    // anything to write.
    const bool seldom = !all_asked && active_ != nullptr;
    if (!seldom) preflight_back_off_.Reset();
    next_choice_ =
        environment_.Now() + (seldom ? preflight_back_off_.Next(kPreflightRetry, kLongestRetry)
                                     : BackOff::Duration(kPreflightRetry));
  };
  for (const kube::Mode mode : modes) {
    const bool runs = active_ != nullptr && active_->mode() == mode;
    bool asked = false;
    const PreflightResult result = AskPreflight(mode, settings, asked);
    all_asked = all_asked && asked;
    if (mode == settings.mode) state_.preflight = result;
    // What runs is not left because it could not be asked for.
    if (!result.passed && !(runs && !asked)) {
      pass_by(mode, result.message);
      continue;
    }
    const SyncResult base = EnsureBase(settings, mode);
    if (!Failed(base.problems)) {
      state_.fallback_reason = reasons;
      if (mode != settings.mode || !asked) {
        ask_again();
      } else {
        preflight_back_off_.Reset();
      }
      return mode;
    }
    base_problems = base.problems;
    if (runs) break;
    pass_by(mode, "the shared rules could not be written: " + Describe(base.problems));
  }
  if (!base_problems.empty()) {
    // It may pass, unlike what a preflight says: a trouble of the sync and no verdict on the modes.
    SetProblems(std::move(base_problems));
    next_choice_ = environment_.Now() + kRetry;
    if (active_ != nullptr) next_resync_ = std::min(next_resync_, next_choice_);
    return std::nullopt;
  }
  state_.fallback_reason = reasons;
  ask_again();
  // Nothing asked for can run here: what runs goes on running.
  spdlog::error("no mode can run on this node: {}", reasons);
  if (active_ == nullptr) SetProblems({{"node", "no mode can run on this node: " + reasons}});
  return std::nullopt;
}

// A restarted agent finds the modes of its predecessor in the kernel. Is it the asked one alone, it
// is adopted by FullSync. Is there another one too, the agent ended in the middle of a handover,
// nobody knows where: the handover to the asked mode is done again from the start, which disturbs
// nothing that is done already.
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
    active_ = std::move(dataplane);  // the asked one comes back by the handover
    active_settings_ = settings;
    made_generation_ = environment_.Generation();
    state_.active = mode;
  } else if (mode != settings.mode) {
    leftovers_.Add(std::move(dataplane), environment_.Now());  // only two modes at a time
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
    if (active_ != nullptr && draining_ == nullptr) {
      spdlog::info("found {} rules of an earlier run in the kernel", kube::ToString(mode));
      draining_ = std::move(*found);
      BeginDrain(model);
    } else {
      Adopt(std::move(*found), *settings_);
    }
    return true;
  });
}

// Null: it could not be made, which is in the steps.
std::unique_ptr<Dataplane> ModeController::Make(kube::Mode mode,
                                                const kube::ProxySettings& settings) {
  auto made = steps_.Try("make", kube::ToString(mode),
                         [&] { return environment_.MakeDataplane(mode, settings); });
  return made ? std::move(*made) : nullptr;
}

// The kernel's state is the only state: a new dataplane adopts what the one before it wrote.
bool ModeController::MakeActiveAnew(const kube::ProxySettings& settings) {
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
    choice_back_off_.Reset();
  }
  const bool rebuild = std::exchange(rebuild_, false);
  const bool changed = news || rebuild || !state_.unfinished.empty();
  settings_ = settings;
  state_.asked = settings.mode;
  state_.unfinished.clear();
  if (!adopted_) AdoptWhatIsThere(settings);

  const std::string told = state_.fallback_reason;
  const std::optional<kube::Mode> chosen = Choose(settings);
  if (!chosen) {
    rebuild_ = changed;  // what is new in the settings is still to be given to a dataplane
    return;
  }
  if (*chosen != settings.mode && state_.fallback_reason != told) {
    spdlog::warn("{} is to run and not {}: {}", kube::ToString(*chosen),
                 kube::ToString(settings.mode), state_.fallback_reason);
  }
  if (active_ == nullptr || active_->mode() != *chosen) {
    HandOver(*chosen, model);
    return;
  }
  if (!changed && state_.synced_once && !need_full_sync_) return;
  const bool anew =
      rebuild || !(active_settings_ == settings) || made_generation_ != environment_.Generation();
  if (anew && !MakeActiveAnew(settings)) {
    rebuild_ = true;
    Unfinished(
        fmt::format("{} could not be set up with the new settings", kube::ToString(*chosen)));
    return;
  }
  if (Program(*active_, model, /*verify=*/true)) choice_back_off_.Reset();
}

// sessionAffinity outlives a handover. Where that fails a client is placed afresh, which is no
// reason to stay in the old mode.
std::vector<ClientBinding> ModeController::BoundClients(const ServiceModel& model) {
  const bool any = std::any_of(model.entries.begin(), model.entries.end(), [](const auto& each) {
    return each.second->affinity_timeout.count() > 0;
  });
  if (!any) return {};
  try {
    return active_->Bindings(model);
  } catch (const std::exception& error) {
    spdlog::warn(
        "which clients {} has bound by sessionAffinity is not known, so they are placed "
        "afresh: {}",
        kube::ToString(active_->mode()), error.what());
    return {};
  }
}

void ModeController::Bind(Dataplane& dataplane, const ServiceModel& model,
                          const std::vector<ClientBinding>& bindings) {
  if (bindings.empty()) return;
  const SyncResult result =
      Guarded(kube::ToString(dataplane.mode()), [&] { return dataplane.Bind(model, bindings); });
  if (result.ok()) {
    spdlog::info("{} clients stay bound by sessionAffinity", bindings.size());
  } else {
    spdlog::warn("of {} clients bound by sessionAffinity some are placed afresh: {}",
                 bindings.size(), Describe(result.problems));
  }
}

// The old dataplane stops attracting new connections; returns what worked before and does not now,
// "" if nothing.
std::string ModeController::MoveNewConnections(const ServiceModel& model) {
  try {
    active_->Drain(model);
  } catch (const std::exception& error) {
    return fmt::format("{} could not be drained: {}", kube::ToString(active_->mode()),
                       error.what());
  }
  const auto failed = steps_.Try("probe", "", [&] { return environment_.Traffic().AfterSwitch(); });
  if (!failed) return "Services could not be probed: " + steps_.failing().at("probe");
  if (failed->empty()) return "";
  return fmt::format("these no longer answered after the change: {}", fmt::join(*failed, ", "));
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
  if (!Failed(result.problems)) Bind(dataplane, model, bindings);
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
  result.problems.insert(result.problems.begin(), base_problems_.begin(), base_problems_.end());
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

void ModeController::HandOver(kube::Mode mode, const ServiceModel& model) {
  size_t compared = 0;
  std::vector<ClientBinding> bindings;
  std::unique_ptr<Dataplane> next = Make(mode, *settings_);
  if (next == nullptr) {
    const std::string why = fmt::format("{} could not be set up", kube::ToString(mode));
    if (active_ == nullptr) SetProblems({{std::string(kube::ToString(mode)), why}});
    Unfinished(why);
    return;
  }
  if (active_ != nullptr) {
    const auto works = steps_.Try(
        "probe", "", [&] { return environment_.Traffic().Before(active_->mode(), mode, model); });
    if (!works) {
      Unfinished(fmt::format("the handover to {} waits until Services can be probed",
                             kube::ToString(mode)));
      return;
    }
    compared = *works;
  }
  // A move back while the earlier one still drains: the draining dataplane becomes the new one,
  // with the connections it still has.
  if (draining_ != nullptr && draining_->mode() == mode) {
    state_.draining.reset();
    state_.draining_connections = 0;
    next_drain_poll_ = TimePoint::max();
    draining_.reset();
  } else if (draining_ != nullptr) {
    EndDrain();  // only two modes at a time: the oldest goes now
  }
  leftovers_.Forget(mode);
  if (active_ != nullptr) {
    bindings = BoundClients(model);
    spdlog::info("handover {} -> {} begins; {} probes pass", kube::ToString(active_->mode()),
                 kube::ToString(mode), compared);
  }
  const bool programmed = Program(*next, model, /*verify=*/true, bindings);
  if (active_ != nullptr) {
    std::string failed;
    if (!programmed) {
      failed = "it could not be programmed: " + Describe(state_.problems);
    } else if (failed = NoLongerServed(); failed.empty()) {
      failed = MoveNewConnections(model);
    }
    if (!failed.empty()) {
      TakeBack(std::move(next), failed, model);
      return;
    }
  }

  draining_ = std::move(active_);
  active_ = std::move(next);
  active_settings_ = *settings_;
  made_generation_ = environment_.Generation();
  choice_back_off_.Reset();
  state_.active = mode;
  state_.reverted_reason.clear();
  state_.synced_once = programmed;
  need_full_sync_ = !programmed;
  threw_in_a_row_ = 0;
  not_served_ = FamiliesOf(state_.problems);
  resync_back_off_.Reset();
  ScheduleResync(!refusals_.empty());
  WatchCanaries();
  if (draining_ == nullptr) {
    spdlog::info("{} serves {} Services with {} endpoints", kube::ToString(mode),
                 model.service_count, model.endpoint_count);
    return;
  }
  BeginDrain(model);
  spdlog::info(
      "{} serves new connections; {} keeps {} established ones until they end, for at most {} s",
      kube::ToString(mode), state_.draining ? kube::ToString(*state_.draining) : "nothing",
      state_.draining_connections,
      std::chrono::duration_cast<std::chrono::seconds>(settings_->drain_timeout).count());
}

void ModeController::TakeBack(std::unique_ptr<Dataplane> next, const std::string& failed,
                              const ServiceModel& model) {
  const kube::Mode mode = next->mode();
  spdlog::error("handover to {} reverted: {}", kube::ToString(mode), failed);
  // First the old one attracts new connections again, then the new one goes.
  Program(*active_, model, /*verify=*/true);
  if (!leftovers_.Remove(*next)) leftovers_.AddFailed(std::move(next), environment_.Now());
  state_.reverted_reason =
      fmt::format("handover to {} was reverted: {}", kube::ToString(mode), failed);
  next_choice_ = environment_.Now() + kRevertedRetry;
}

void ModeController::BeginDrain(const ServiceModel& model) {
  state_.draining = draining_->mode();
  drain_deadline_ = environment_.Now() + settings_->drain_timeout;
  PollDrain(model);
}

void ModeController::PollDrain(const ServiceModel& model) {
  const kube::Mode mode = draining_->mode();
  const TimePoint begin = environment_.Now();
  const auto drained =
      steps_.Try("drain", kube::ToString(mode), [&] { return draining_->Drain(model); });
  const TimePoint now = environment_.Now();
  if (drained) state_.draining_connections = drained->connections;
  if ((drained && drained->connections == 0) || now >= drain_deadline_) {
    steps_.Forget("drain", kube::ToString(mode));
    EndDrain();
    return;
  }
  const TimePoint::duration wait =
      drained ? std::max<TimePoint::duration>(kDrainPoll, kDrainPollShare * (now - begin)) : kRetry;
  next_drain_poll_ = std::min(now + wait, drain_deadline_);
}

void ModeController::EndDrain() {
  const kube::Mode mode = draining_->mode();
  const uint64_t left = state_.draining_connections;
  auto drained = std::move(draining_);
  state_.draining.reset();
  state_.draining_connections = 0;
  next_drain_poll_ = TimePoint::max();
  if (!leftovers_.Remove(*drained)) {
    leftovers_.AddFailed(std::move(drained), environment_.Now());
    return;
  }
  RenewAfterRemoval();
  spdlog::info("{} is drained and removed{}", kube::ToString(mode),
               left == 0 ? std::string()
                         : fmt::format("; {} connections were left at the drain timeout", left));
}

// What both modes need and each takes back when it goes (route_localnet) is set again at once.
void ModeController::RenewAfterRemoval() {
  if (active_ != nullptr && !need_full_sync_) next_resync_ = environment_.Now();
}

void ModeController::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (active_ == nullptr || delta.empty()) return;
  if (need_full_sync_ || delta.node_changed) {
    Resync(model);
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
  result.problems.insert(result.problems.begin(), base_problems_.begin(), base_problems_.end());
  SetProblems(std::move(result.problems));
  if (news || refused) {
    next_resync_ = std::min(next_resync_, environment_.Now() + kRetry);
    spdlog::warn("{}: a change left {} problems and {} Service ports refused in part",
                 kube::ToString(active_->mode()), state_.problems.size(), refusals_.entries());
  }
}

void ModeController::ResyncNow() {
  if (active_ != nullptr && !need_full_sync_) next_resync_ = environment_.Now();
}

void ModeController::Resync(const ServiceModel& model) {
  const SyncResult base = EnsureBase(active_settings_, active_->mode());
  if (base.repaired > 0) spdlog::warn("repaired {} of the shared rules", base.repaired);
  state_.repaired += base.repaired;
  // A restart would do no more: after several times it may be the process that is at fault.
  if (made_generation_ != environment_.Generation() || threw_in_a_row_ >= kThrewTooOften)
    MakeActiveAnew(active_settings_);
  const uint64_t repaired_before = state_.repaired;
  Program(*active_, model, /*verify=*/false);
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
  if (!need_full_sync_ && ActiveSyncPeriod() > Canaries::kPeriod)
    return canaries_.Begin(LookForCanaries(), environment_.Now());
  canaries_.Stop();
  steps_.Forget("look for rules", "");
}

void ModeController::MissCanaries(const ServiceModel& model) {
  const auto missing = canaries_.Missing(LookForCanaries(), environment_.Now());
  if (missing.empty()) return;
  spdlog::warn("{}: something else took out of the kernel: {}; all is compared and written again",
               kube::ToString(active_->mode()), fmt::join(missing, ", "));
  Resync(model);
}

void ModeController::Tick(const ServiceModel& model) {
  const TimePoint now = environment_.Now();
  if (settings_ && now >= next_look_) LookAgain(model);
  if (settings_ && now >= next_choice_) Apply(*settings_, model);
  if (active_ != nullptr && now >= ResyncDue()) Resync(model);
  if (active_ != nullptr && now >= canaries_.due()) MissCanaries(model);
  if (draining_ != nullptr && now >= next_drain_poll_) PollDrain(model);
  // Never before another mode serves.
  if (state_.synced_once && now >= leftovers_.due() && leftovers_.RemoveAll(now))
    RenewAfterRemoval();
}

ModeController::TimePoint ModeController::ResyncDue() const {
  // After a failure the retry's own pace counts.
  if (active_ == nullptr || need_full_sync_) return next_resync_;
  return std::min(next_resync_, active_->FullSyncDue());
}

ModeController::TimePoint ModeController::NextDeadline() const {
  const TimePoint leftovers = state_.synced_once ? leftovers_.due() : TimePoint::max();
  return std::min(
      {next_choice_, ResyncDue(), canaries_.due(), next_drain_poll_, next_look_, leftovers});
}

bool ModeController::LeaveToKernel(const ServiceModel& model, std::chrono::seconds longest) {
  if (active_ != nullptr && active_->mode() == kube::Mode::kUserspace && settings_) {
    kube::ProxySettings settings = *settings_;
    settings.mode = kube::Mode::kIptables;
    settings.fallback_modes.clear();
    bool asked = false;
    const PreflightResult preflight = AskPreflight(kube::Mode::kIptables, settings, asked);
    if (preflight.passed) {
      settings_ = settings;
      HandOver(kube::Mode::kIptables, model);
    } else {
      spdlog::error("userspace mode ends, and nothing takes its place: {}", preflight.message);
    }
    next_choice_ = TimePoint::max();
    if (active_->mode() == kube::Mode::kIptables) {
      state_.fallback_reason =
          "the agent ends, and userspace mode's forwarder with it; the next agent goes back";
    }
  }
  if (draining_ == nullptr || draining_->mode() != kube::Mode::kUserspace) return false;
  drain_deadline_ = std::min(drain_deadline_, environment_.Now() + longest);
  next_drain_poll_ = std::min(next_drain_poll_, drain_deadline_);
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
      // The one that is there minds what it runs: the forwarder that another one ends it would
      // start again.
      for (Dataplane* mine : {active_.get(), draining_.get()}) {
        if (mine != nullptr && mine->mode() == mode) return mine->Remove();
      }
      const auto dataplane = environment_.FindInKernel(mode, settings);
      return dataplane == nullptr ? SyncResult{} : dataplane->Remove();
    });
  }
  remove("the shared rules", [&] { return environment_.RemoveBase(settings); });
  if (!problems.empty()) {
    SetProblems(problems);
    return problems;
  }
  active_.reset();
  draining_.reset();
  settings_.reset();
  steps_ = Steps(steps_.failures());
  state_ = ModeState{};
  leftovers_.clear();
  not_looked_for_.clear();
  not_served_.clear();
  base_problems_.clear();
  refusals_.clear();
  next_drain_poll_ = next_resync_ = next_choice_ = next_look_ = TimePoint::max();
  need_full_sync_ = false;
  canaries_.Stop();
  return problems;
}

}  // namespace pointsman::agent
