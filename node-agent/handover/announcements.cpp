#include "node-agent/handover/announcements.h"

#include <algorithm>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/dataplane/mode_traits.h"

namespace pointsman::agent {

std::vector<kube::Mode> Announcements::EveryMode() {
  std::vector<kube::Mode> modes;
  modes.reserve(AllModes().size());
  for (const ModeTraits& traits : AllModes())
    modes.push_back(traits.mode);
  return modes;
}

// If it throws, nobody can be ready.
template <typename Call>
Readiness Announcements::Tell(kube::Mode mode, const Call& call) {
  if (std::find(told_.begin(), told_.end(), mode) == told_.end()) told_.push_back(mode);
  const auto readiness = steps_.Try("announce", kube::ToString(mode), call);
  if (readiness) return *readiness;
  const auto why = steps_.failing().find(fmt::format("announce {}", kube::ToString(mode)));
  return {.waits_for = fmt::format("others on this node could not be told of mode {}: {}",
                                   kube::ToString(mode),
                                   why == steps_.failing().end() ? std::string() : why->second)};
}

Announcements::Answer Announcements::Ask(kube::Mode mode, const kube::ProxySettings& settings) {
  const Readiness readiness =
      Tell(mode, [&] { return environment_.Others().Announce(mode, settings); });
  if (readiness.ready()) {
    if (awaited_ == mode) {
      spdlog::info("others on this node are ready for mode {}", kube::ToString(mode));
      StopWaiting();
    }
    return {};
  }
  const TimePoint now = environment_.Now();
  if (awaited_ != mode) {
    awaited_ = mode;
    deadline_ = now + kLongestWait;
  }
  if (now >= deadline_) {
    due_ = TimePoint::max();
    if (!readiness.required) return {};
    StopWaiting();
    return {Answer::Kind::kGiveUp, readiness.waits_for};
  }
  if (readiness.waits_for != waits_for_) {
    waits_for_ = readiness.waits_for;
    spdlog::info("the handover to {} waits, for {} s at most: {}", kube::ToString(mode),
                 kLongestWait.count(), waits_for_);
  }
  due_ = std::min<TimePoint>(now + kPoll, deadline_);
  return {Answer::Kind::kWait, readiness.waits_for};
}

void Announcements::StopWaiting() {
  if (awaited_) steps_.Forget("announce", kube::ToString(*awaited_));
  awaited_.reset();
  waits_for_.clear();
  due_ = TimePoint::max();
}

std::string Announcements::Renew(kube::Mode mode, const kube::ProxySettings& settings) {
  const Readiness readiness =
      Tell(mode, [&] { return environment_.Others().Renew(mode, settings); });
  if (readiness.waits_for != not_ready_) {
    not_ready_ = readiness.waits_for;
    if (not_ready_.empty())
      spdlog::info("others on this node are ready for mode {}", kube::ToString(mode));
    else
      spdlog::warn("{} serves, but: {}", kube::ToString(mode), not_ready_);
  }
  return readiness.required ? readiness.waits_for : std::string();
}

void Announcements::WithdrawAllBut(const std::vector<kube::Mode>& here) {
  if (environment_.Now() < next_withdrawal_) return;
  bool failed = false;
  std::erase_if(told_, [&](kube::Mode mode) {
    if (mode == awaited_ || std::find(here.begin(), here.end(), mode) != here.end()) return false;
    const bool done = steps_.TryTo("withdraw", kube::ToString(mode),
                                   [&] { environment_.Others().Withdraw(mode); });
    if (done) steps_.Forget("announce", kube::ToString(mode));
    failed = failed || !done;
    return done;
  });
  if (failed) {
    next_withdrawal_ = environment_.Now() + withdrawal_back_off_.Next(first_retry_, longest_retry_);
  } else {
    withdrawal_back_off_.Reset();
  }
}

void Announcements::Withdraw(kube::Mode mode) {
  environment_.Others().Withdraw(mode);
  std::erase(told_, mode);
}

}  // namespace pointsman::agent
