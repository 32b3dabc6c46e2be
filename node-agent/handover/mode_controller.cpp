#include "node-agent/handover/mode_controller.h"

#include <algorithm>

namespace pointsman::agent {
namespace {

constexpr kube::Mode kAllModes[] = {kube::Mode::kIptables, kube::Mode::kIpvs, kube::Mode::kNftables,
                                    kube::Mode::kUserspace};

std::string Describe(const std::vector<SyncProblem>& problems) {
  constexpr size_t kMost = 3;
  std::string text;
  for (size_t i = 0; i < problems.size() && i < kMost; ++i) {
    if (i > 0) text += "; ";
    text += problems[i].object + ": " + problems[i].message;
  }
  if (problems.size() > kMost) text += fmt::format("; and {} more", problems.size() - kMost);
  return text;
}

}  // namespace

kube::Duration ModeController::SyncPeriod() const {
  if (!state_.active) return std::chrono::seconds(30);
  switch (*state_.active) {
    case kube::Mode::kIpvs:
      return active_settings_.ipvs.sync_period;
    case kube::Mode::kNftables:
      return active_settings_.nftables.sync_period;
    case kube::Mode::kIptables:
    case kube::Mode::kUserspace:
      return active_settings_.iptables.sync_period;
  }
  return std::chrono::seconds(30);
}

std::optional<ModeController::Chosen> ModeController::Choose(const kube::ProxySettings& settings) {
  std::vector<kube::Mode> modes{settings.mode};
  for (const kube::Mode mode : settings.fallback_modes) {
    if (std::find(modes.begin(), modes.end(), mode) == modes.end()) modes.push_back(mode);
  }
  state_.fallback_reason.clear();
  for (const kube::Mode mode : modes) {
    PreflightResult result = environment_.Preflight(mode, settings, /*load=*/true);
    if (mode == settings.mode) state_.preflight = result;
    if (result.passed) return Chosen{mode, std::move(result)};
    if (!state_.fallback_reason.empty()) state_.fallback_reason += "; ";
    state_.fallback_reason += fmt::format("{}: {}", kube::ToString(mode), result.message);
  }
  return std::nullopt;
}

// A restarted agent finds the modes of its predecessor in the kernel. Is it the asked one alone, it
// is adopted by FullSync. Is there another one too, the agent ended in the middle of a handover,
// nobody knows where: the handover to the asked mode is done again from the start, which disturbs
// nothing that is done already.
void ModeController::AdoptWhatIsThere(const kube::ProxySettings& settings) {
  adopted_ = true;
  for (const kube::Mode mode : kAllModes) {
    auto dataplane = environment_.FindInKernel(mode, settings);
    if (dataplane == nullptr) continue;
    spdlog::info("found {} rules of an earlier run in the kernel", kube::ToString(mode));
    if (active_ == nullptr || active_->mode() == settings.mode) {
      active_ = std::move(dataplane);  // the asked one comes back by the handover
    } else if (mode != settings.mode) {
      leftovers_.push_back(std::move(dataplane));  // only two modes at a time
      next_leftovers_ = environment_.Now();
    }
  }
  if (active_ == nullptr) return;
  active_settings_ = settings;
  state_.active = active_->mode();
}

void ModeController::Apply(const kube::ProxySettings& settings, const ServiceModel& model) {
  const bool rebuild = std::exchange(rebuild_, false);
  const bool changed = rebuild || !settings_ || !(*settings_ == settings);
  settings_ = settings;
  state_.asked = settings.mode;
  if (changed) state_.reverted_reason.clear();
  if (!adopted_) AdoptWhatIsThere(settings);

  const SyncResult base = environment_.EnsureBase(settings);
  if (!base.ok()) {
    state_.problems = base.problems;
    next_choice_ = environment_.Now() + kRetry;
    spdlog::error("the shared rules could not be written: {}", Describe(base.problems));
    return;
  }

  const std::string told = state_.fallback_reason;
  const auto chosen = Choose(settings);
  if (chosen && chosen->mode != settings.mode && state_.fallback_reason != told) {
    spdlog::warn("{} is to run and not {}: {}", kube::ToString(chosen->mode),
                 kube::ToString(settings.mode), state_.fallback_reason);
  }
  next_choice_ = TimePoint::max();
  if (!chosen || chosen->mode != settings.mode) {
    next_choice_ = environment_.Now() + kPreflightRetry;
  }
  if (!chosen) {
    // Nothing asked for can run here: what runs goes on running.
    spdlog::error("no mode can run on this node: {}", state_.fallback_reason);
    if (active_ == nullptr) {
      state_.problems = {{"node", "no mode can run on this node: " + state_.fallback_reason}};
    }
    return;
  }
  if (active_ != nullptr && active_->mode() == chosen->mode) {
    if (!changed && state_.synced_once && !need_full_sync_) return;
    if (rebuild || !(active_settings_ == settings)) {
      active_ = environment_.MakeDataplane(chosen->mode, settings);
      active_settings_ = settings;
    }
    Program(*active_, model, /*verify=*/true);
    return;
  }
  HandOver(chosen->mode, model);
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
  SyncResult result;
  try {
    result = dataplane.Bind(model, bindings);
  } catch (const std::exception& error) {
    result.problems.push_back({std::string(kube::ToString(dataplane.mode())), error.what()});
  }
  if (result.ok()) {
    spdlog::info("{} clients stay bound by sessionAffinity", bindings.size());
  } else {
    spdlog::warn("of {} clients bound by sessionAffinity some are placed afresh: {}",
                 bindings.size(), Describe(result.problems));
  }
}

// The old dataplane stops attracting new connections; returns which of the probes that passed
// before fail now, "" if none.
std::string ModeController::MoveNewConnections(const std::vector<std::string>& before,
                                               const ServiceModel& model) {
  try {
    active_->Drain(model);
  } catch (const std::exception& error) {
    return fmt::format("{} could not be drained: {}", kube::ToString(active_->mode()),
                       error.what());
  }
  const std::vector<std::string> after = environment_.PassingProbes(model);
  std::string failed;
  for (const std::string& probe : before) {
    if (std::find(after.begin(), after.end(), probe) != after.end()) continue;
    if (!failed.empty()) failed += ", ";
    failed += probe;
  }
  if (!failed.empty()) failed = "these no longer answered after the change: " + failed;
  return failed;
}

// Returns whether the kernel holds the whole model.
bool ModeController::Program(Dataplane& dataplane, const ServiceModel& model, bool verify,
                             const std::vector<ClientBinding>& bindings) {
  SyncResult result;
  try {
    result = dataplane.FullSync(model);
    // Before all else: in some modes new connections come already.
    if (result.ok()) Bind(dataplane, model, bindings);
    if (result.ok() && verify) {
      VerifyResult read_back = dataplane.Verify(model);
      result.problems = std::move(read_back.differences);
      if (!read_back.ok() && result.problems.empty()) {
        result.problems.push_back({"kernel", fmt::format("{} objects differ from what was written",
                                                         read_back.difference_count)});
      }
    }
  } catch (const std::exception& error) {
    result.problems.push_back({std::string(kube::ToString(dataplane.mode())), error.what()});
  }
  ++state_.full_syncs;
  state_.repaired += result.repaired;
  if (!result.ok()) {
    spdlog::error("{}: {} problems: {}", kube::ToString(dataplane.mode()), result.problems.size(),
                  Describe(result.problems));
  }
  if (result.ok()) {
    state_.warnings = std::move(result.warnings);
    state_.nat_rules = result.nat_rules;
    state_.filter_rules = result.filter_rules;
  }
  if (&dataplane == active_.get()) {
    need_full_sync_ = !result.ok();
    if (result.ok()) state_.synced_once = true;
    next_resync_ = environment_.Now() +
                   (result.ok() ? std::chrono::duration_cast<TimePoint::duration>(SyncPeriod())
                                : TimePoint::duration(kRetry));
  }
  const bool ok = result.ok();
  state_.problems = std::move(result.problems);
  return ok;
}

void ModeController::HandOver(kube::Mode mode, const ServiceModel& model) {
  // A move back while the earlier one still drains: the draining dataplane becomes the new one,
  // with the connections it still has.
  std::unique_ptr<Dataplane> next;
  if (draining_ != nullptr && draining_->mode() == mode) {
    state_.draining.reset();
    state_.draining_connections = 0;
    next_drain_poll_ = TimePoint::max();
    draining_.reset();
  } else if (draining_ != nullptr) {
    EndDrain();  // only two modes at a time: the oldest goes now
    if (draining_ != nullptr) {
      leftovers_.push_back(std::move(draining_));
      next_leftovers_ = environment_.Now() + kRetry;
    }
  }
  // What is programmed now is no leftover of that mode any more.
  std::erase_if(leftovers_, [mode](const auto& leftover) { return leftover->mode() == mode; });
  next = environment_.MakeDataplane(mode, *settings_);

  std::vector<std::string> before;
  std::vector<ClientBinding> bindings;
  if (active_ != nullptr) {
    before = environment_.PassingProbes(model);
    bindings = BoundClients(model);
    spdlog::info("handover {} -> {} begins; {} probes pass", kube::ToString(active_->mode()),
                 kube::ToString(mode), before.size());
  }
  const bool programmed = Program(*next, model, /*verify=*/true, bindings);
  std::string failed;
  if (!programmed) {
    failed = "it could not be programmed: " + Describe(state_.problems);
  } else if (active_ != nullptr) {
    failed = MoveNewConnections(before, model);
  }
  if (!failed.empty() && active_ != nullptr) {
    spdlog::error("handover to {} is taken back: {}", kube::ToString(mode), failed);
    // First the old one attracts new connections again, then the new one goes.
    Program(*active_, model, /*verify=*/true);
    const SyncResult removed = next->Remove();
    if (!removed.ok()) spdlog::error("taking it back left: {}", Describe(removed.problems));
    state_.reverted_reason =
        fmt::format("handover to {} was taken back: {}", kube::ToString(mode), failed);
    next_choice_ = environment_.Now() + kRevertedRetry;
    return;
  }

  draining_ = std::move(active_);
  active_ = std::move(next);
  active_settings_ = *settings_;
  state_.active = mode;
  state_.reverted_reason.clear();
  state_.synced_once = programmed;
  need_full_sync_ = !programmed;
  next_resync_ = environment_.Now() +
                 (programmed ? std::chrono::duration_cast<TimePoint::duration>(SyncPeriod())
                             : TimePoint::duration(kRetry));
  if (draining_ == nullptr) {
    spdlog::info("{} serves {} Services with {} endpoints", kube::ToString(mode),
                 model.service_count, model.endpoint_count);
    return;
  }
  state_.draining = draining_->mode();
  drain_deadline_ = environment_.Now() + settings_->drain_timeout;
  PollDrain(model);
  spdlog::info(
      "{} serves new connections; {} keeps {} established ones until they end, for at most {} s",
      kube::ToString(mode), state_.draining ? kube::ToString(*state_.draining) : "nothing",
      state_.draining_connections,
      std::chrono::duration_cast<std::chrono::seconds>(settings_->drain_timeout).count());
}

void ModeController::PollDrain(const ServiceModel& model) {
  try {
    state_.draining_connections = draining_->Drain(model).connections;
  } catch (const std::exception& error) {
    spdlog::error("draining {}: {}", kube::ToString(draining_->mode()), error.what());
    next_drain_poll_ = environment_.Now() + kRetry;
    if (environment_.Now() >= drain_deadline_) EndDrain();
    return;
  }
  if (state_.draining_connections == 0 || environment_.Now() >= drain_deadline_) {
    EndDrain();
  } else {
    next_drain_poll_ = std::min(environment_.Now() + kDrainPoll, drain_deadline_);
  }
}

void ModeController::EndDrain() {
  const SyncResult removed = draining_->Remove();
  if (!removed.ok()) {
    spdlog::error("removing {}: {}", kube::ToString(draining_->mode()), Describe(removed.problems));
    next_drain_poll_ = environment_.Now() + kRetry;
    return;
  }
  spdlog::info("{} is drained and removed{}", kube::ToString(draining_->mode()),
               state_.draining_connections == 0
                   ? std::string()
                   : fmt::format("; {} connections were left at the drain timeout",
                                 state_.draining_connections));
  draining_.reset();
  state_.draining.reset();
  state_.draining_connections = 0;
  next_drain_poll_ = TimePoint::max();
  // What both modes need and each takes back when it goes (route_localnet) is set again at once.
  next_resync_ = environment_.Now();
}

void ModeController::RemoveLeftovers() {
  next_leftovers_ = TimePoint::max();
  std::erase_if(leftovers_, [this](const auto& leftover) {
    SyncResult removed;
    try {
      removed = leftover->Remove();
    } catch (const std::exception& error) {
      removed.problems.push_back({"kernel", error.what()});
    }
    if (removed.ok()) return true;
    spdlog::error("removing {}: {}", kube::ToString(leftover->mode()), Describe(removed.problems));
    next_leftovers_ = environment_.Now() + kRetry;
    return false;
  });
}

void ModeController::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (active_ == nullptr || delta.empty()) return;
  if (need_full_sync_ || delta.node_changed) {
    Resync(model);
    return;
  }
  ++state_.syncs;
  try {
    SyncResult result = active_->Sync(model, delta);
    if (result.ok()) {
      state_.warnings = std::move(result.warnings);
      return;
    }
    state_.problems = std::move(result.problems);
  } catch (const std::exception& error) {
    state_.problems = {{std::string(kube::ToString(active_->mode())), error.what()}};
  }
  spdlog::error("{}: a change left {} problems, a full sync follows: {}",
                kube::ToString(active_->mode()), state_.problems.size(), Describe(state_.problems));
  need_full_sync_ = true;
  next_resync_ = environment_.Now() + kRetry;
}

void ModeController::ResyncNow() {
  if (active_ != nullptr && !need_full_sync_) next_resync_ = environment_.Now();
}

void ModeController::Resync(const ServiceModel& model) {
  const SyncResult base = environment_.EnsureBase(active_settings_);
  if (base.repaired > 0) spdlog::warn("repaired {} of the shared rules", base.repaired);
  const uint64_t repaired_before = state_.repaired;
  Program(*active_, model, /*verify=*/false);
  if (state_.repaired > repaired_before) {
    spdlog::warn("{}: repaired {} objects that something else had changed",
                 kube::ToString(active_->mode()), state_.repaired - repaired_before);
  }
  if (!base.ok()) {
    state_.problems.insert(state_.problems.end(), base.problems.begin(), base.problems.end());
    next_resync_ = environment_.Now() + kRetry;
  }
}

void ModeController::Tick(const ServiceModel& model) {
  const TimePoint now = environment_.Now();
  if (settings_ && now >= next_choice_) Apply(*settings_, model);
  if (active_ != nullptr && now >= ResyncDue()) Resync(model);
  if (draining_ != nullptr && now >= next_drain_poll_) PollDrain(model);
  // Never before another mode serves.
  if (state_.synced_once && now >= next_leftovers_) RemoveLeftovers();
}

ModeController::TimePoint ModeController::ResyncDue() const {
  // After a failure the retry's own pace counts.
  if (active_ == nullptr || need_full_sync_) return next_resync_;
  return std::min(next_resync_, active_->FullSyncDue());
}

ModeController::TimePoint ModeController::NextDeadline() const {
  const TimePoint leftovers = state_.synced_once ? next_leftovers_ : TimePoint::max();
  return std::min({next_choice_, ResyncDue(), next_drain_poll_, leftovers});
}

bool ModeController::LeaveToKernel(const ServiceModel& model, std::chrono::seconds longest) {
  if (active_ != nullptr && active_->mode() == kube::Mode::kUserspace && settings_) {
    kube::ProxySettings settings = *settings_;
    settings.mode = kube::Mode::kIptables;
    settings.fallback_modes.clear();
    const PreflightResult preflight =
        environment_.Preflight(kube::Mode::kIptables, settings, /*load=*/true);
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
  const auto add = [&problems](SyncResult result) {
    problems.insert(problems.end(), result.problems.begin(), result.problems.end());
  };
  for (const kube::Mode mode : kAllModes) {
    const auto dataplane = environment_.FindInKernel(mode, settings);
    if (dataplane != nullptr) add(dataplane->Remove());
  }
  add(environment_.RemoveBase(settings));
  if (problems.empty()) {
    active_.reset();
    draining_.reset();
    settings_.reset();
    state_ = ModeState{};
    leftovers_.clear();
    next_drain_poll_ = next_resync_ = next_choice_ = next_leftovers_ = TimePoint::max();
    need_full_sync_ = false;
  } else {
    state_.problems = problems;
  }
  return problems;
}

}  // namespace pointsman::agent
