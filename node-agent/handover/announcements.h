// When others on the node are told of a mode, how long a handover waits until they are ready for
// it, and when they are told that it is gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/handover/announcer.h"
#include "node-agent/handover/back_off.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/steps.h"

namespace pointsman::agent {

// The sync thread's. Nothing here blocks: who waits is asked again when it is due.
class Announcements {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // A policy engine that starts again reads its policies from the API server first: seconds, on a
  // large cluster tens of them.
  static constexpr std::chrono::seconds kLongestWait{60};
  static constexpr std::chrono::milliseconds kPoll{500};  // how often a handover asks meanwhile

  struct Answer {
    enum class Kind : uint8_t { kGo, kWait, kGiveUp } kind = Kind::kGo;
    std::string waits_for;  // as Readiness's; "" where all are ready
  };

  // Both outlive this. `first_retry`, `longest_retry`: of a withdrawal that fails.
  Announcements(ModeEnvironment& environment, Steps& steps, BackOff::Duration first_retry,
                BackOff::Duration longest_retry)
      : environment_(environment),
        steps_(steps),
        first_retry_(first_retry),
        longest_retry_(longest_retry) {}

  // A handover to `mode` would begin now; called again until it is done. kWait: not yet, ask again
  // at due(). kGiveUp: they were not ready within kLongestWait; the next call begins another wait.
  Answer Ask(kube::Mode mode, const kube::ProxySettings& settings);
  // The mode that Ask made wait: until they are ready, it was given up, or StopWaiting.
  std::optional<kube::Mode> awaited() const { return awaited_; }
  void StopWaiting();
  // `mode` serves. What others have not done yet, "" if nothing, or if that is accepted.
  std::string Renew(kube::Mode mode, const kube::ProxySettings& settings);
  // Withdraws what may have been announced, but for the modes of `here` and the awaited one: those
  // have something in the kernel, or may have.
  void WithdrawAllBut(const std::vector<kube::Mode>& here);
  // Of all modes, whatever it was before. Throws what the announcer throws.
  void Withdraw(kube::Mode mode);
  // Of the next Ask; max: nothing waits.
  TimePoint due() const { return due_; }

 private:
  template <typename Call>
  Readiness Tell(kube::Mode mode, const Call& call);
  static std::vector<kube::Mode> EveryMode();

  ModeEnvironment& environment_;
  Steps& steps_;
  const BackOff::Duration first_retry_;
  const BackOff::Duration longest_retry_;
  std::optional<kube::Mode> awaited_;
  TimePoint deadline_{};
  TimePoint due_ = TimePoint::max();
  std::string waits_for_;  // as last logged
  std::string not_ready_;  // the same of the mode that serves
  // Not known to be withdrawn. An earlier process may have announced any of them.
  std::vector<kube::Mode> told_ = EveryMode();
  BackOff withdrawal_back_off_;
  TimePoint next_withdrawal_ = TimePoint::min();
};

}  // namespace pointsman::agent
