// Which mode runs on this node, and the move from one to another: preflight, fallback,
// make-before-break, draining, and going back when the new mode does not carry traffic. Knows no
// API.
//
// The order of a handover (docs/handover.md has the reasons):
//   1. preflight of the desired mode, then of the fallback modes, in order;
//   2. others on the node that have to know of the new mode are told, and waited for (announcer.h);
//   3. the new dataplane is programmed whole and read back, the old one untouched;
//   4. the old one drains: no new connections, the established ones go on;
//   5. traffic that worked before must work now (TrafficCheck), else the handover is reverted: the
//      old one serves again and the new one is removed. What only time shows is watched while both
//      are there;
//   6. when they have ended, or after the drain timeout, the old one's objects are removed, and
//      that is judged in the same way: to go back is then another handover, to the mode before.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/announcements.h"
#include "node-agent/handover/back_off.h"
#include "node-agent/handover/canaries.h"
#include "node-agent/handover/drain.h"
#include "node-agent/handover/leftovers.h"
#include "node-agent/handover/mode_choice.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/mode_state.h"
#include "node-agent/handover/shared_base.h"
#include "node-agent/handover/step_judge.h"
#include "node-agent/handover/steps.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class ModeController {
 public:
  explicit ModeController(ModeEnvironment& environment) : environment_(environment) {}

  // New settings (or the same again after a failure, see NextDeadline). `model` must be complete:
  // never call it before the caches have synced, or traffic of what is missing is cut.
  void Apply(const kube::ProxySettings& settings, const ServiceModel& model);
  // The next Apply makes another dataplane, though the settings may be as before: the environment
  // can do more now (another family).
  void Rebuild() { rebuild_ = true; }
  // The next Tick compares the kernel with the model, whatever the sync period says. A failure that
  // is to be tried again keeps its own pace.
  void ResyncNow();
  // The model changed by `delta`.
  void Sync(const ServiceModel& model, const ModelDelta& delta);
  // Whatever is due: periodic resync, a retry, the drain, another look at a failed preflight or
  // whether our rules are still there.
  void Tick(const ServiceModel& model);
  // When Tick has something to do next.
  std::chrono::steady_clock::time_point NextDeadline() const;
  // This process is about to end, and with it what of userspace mode is a process and not in the
  // kernel: new connections move to iptables mode, whose preflight is userspace mode's but for the
  // forwarder, and established ones drain for `longest` at most. True: call Sync and Tick, and not
  // Apply, until state().draining is empty. False: there is nothing to wait for.
  bool LeaveToKernel(const ServiceModel& model, std::chrono::seconds longest);
  // Takes all modes' objects out of the kernel (spec.state: Removed, --cleanup). Problems are
  // returned; calling again retries.
  std::vector<SyncProblem> RemoveAll();

  const ModeState& state() const { return state_; }
  // What failed and is tried again. Also for the agent's own steps, on the same thread.
  Steps& steps() { return steps_; }
  // Dataplane::Sysctls of the active mode.
  std::vector<std::string> ActiveSysctls() const {
    return active_ == nullptr ? std::vector<std::string>{} : active_->Sysctls();
  }

  // How long after a failed sync the next full sync comes; the first wait after another step that
  // failed, and the longest; how often a failed preflight is looked at again. While a
  // mode runs, one that could not be made is looked at ever more seldom.
  static constexpr std::chrono::seconds kRetry{5};
  static constexpr std::chrono::minutes kLongestRetry{5};
  static constexpr std::chrono::seconds kPreflightRetry{15};
  // After so many full syncs in a row that threw, another dataplane is made.
  static constexpr int kThrewTooOften = 3;
  // After a reverted handover the desired mode is tried again so seldom, unless the settings
  // change. What clients' traffic showed to be worse is tried ever more seldom.
  static constexpr std::chrono::minutes kRevertedRetry{5};
  static constexpr std::chrono::hours kLongestRevertedRetry{6};

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  std::optional<kube::Mode> Choose(const kube::ProxySettings& settings);
  void AdoptWhatIsThere(const kube::ProxySettings& settings);
  void Adopt(std::unique_ptr<Dataplane> dataplane, const kube::ProxySettings& settings);
  void LookAgain(const ServiceModel& model);
  void EndBrokenOff(const ServiceModel& model);
  bool Program(Dataplane& dataplane, const ServiceModel& model, bool verify,
               const std::vector<ClientBinding>& bindings = {});
  std::vector<SyncProblem> Differences(Dataplane& dataplane, const ServiceModel& model,
                                       const std::vector<SyncProblem>& known);
  std::unique_ptr<Dataplane> Make(kube::Mode mode, const kube::ProxySettings& settings);
  bool RemakeActive(const kube::ProxySettings& settings);
  // `old_mode_ends`: whatever comes of it, so there is nothing to revert to once the new one is
  // written.
  void HandOver(kube::Mode mode, const ServiceModel& model, bool old_mode_ends = false);
  bool OthersAreReady(kube::Mode mode, const ServiceModel& model);
  void StopWaiting();
  void RenewAnnouncement();
  void WithdrawAnnouncements();
  void Revert(std::unique_ptr<Dataplane> next, const std::string& failed,
              const ServiceModel& model);
  void BeginDrain(std::unique_ptr<Dataplane> dataplane, const ServiceModel& model);
  void Unfinished(const std::string& why);
  std::string NoLongerServed() const;
  std::string MoveNewConnections(Dataplane& next, const ServiceModel& model);
  // judged_steps.cpp
  bool LookedBefore(kube::Mode mode, const ServiceModel& model);
  void StopLooking();
  void JudgeStep(const ServiceModel& model);
  void WatchStep(const ServiceModel& model);
  bool MayEndDrain(const ServiceModel& model);
  void GoBack(kube::Mode to, const std::string& worse, const ServiceModel& model);
  void PollDrain(const ServiceModel& model);
  // `own_change`: the node is another, or a mode of ours was removed. Then nothing counts as
  // repaired.
  void Resync(const ServiceModel& model, bool own_change = false);
  void SetProblems(std::vector<SyncProblem> problems);
  bool Failed(const std::vector<SyncProblem>& problems) const;
  void ShowWarnings();
  void ScheduleResync(bool refused);
  void EndDrain();
  void ShowDrain();
  void RenewAfterRemoval();
  std::optional<Canaries::Names> LookForCanaries();
  void WatchCanaries();
  void MissCanaries(const ServiceModel& model);
  kube::Duration ActiveSyncPeriod() const;
  TimePoint ResyncDue() const;

  ModeEnvironment& environment_;
  Steps steps_;
  SharedBase base_{environment_};
  ModeChooser chooser_{environment_, base_, steps_};
  std::optional<kube::ProxySettings> settings_;
  ModeState state_;
  std::unique_ptr<Dataplane> active_;
  kube::ProxySettings active_settings_;
  uint64_t made_generation_ = 0;  // of the environment, when active_ was made
  // Families that the active mode did not get into the kernel with its last full sync.
  std::vector<net::Family> not_served_;
  std::vector<ServiceWarning> mode_warnings_;  // the dataplane's
  ServiceRefusals refusals_;
  Leftovers leftovers_{steps_, kRetry, kLongestRetry};  // removed as soon as another mode serves
  Drain drain_{environment_, steps_, leftovers_, kRetry};
  StepJudge judge_{environment_, steps_};
  std::optional<kube::Mode> looks_for_;  // traffic is looked at before the handover to it
  bool drain_judged_ = false;            // the removal of what drains is, as its switch was
  Announcements announcements_{environment_, steps_, kRetry, kLongestRetry};
  // The desired mode, found in the kernel beside another one: a handover to it was broken off.
  std::optional<kube::Mode> broken_off_;
  std::vector<kube::Mode> not_looked_for_;  // whether the kernel has anything of them is not known
  TimePoint next_resync_ = TimePoint::max();
  bool removed_other_ = false;  // since the last resync, the rules of another mode
  TimePoint next_choice_ = TimePoint::max();
  TimePoint next_look_ = TimePoint::max();
  Canaries canaries_;  // of the active mode
  BackOff choice_back_off_;
  BackOff preflight_back_off_;  // while one cannot be made
  BackOff resync_back_off_;
  BackOff look_back_off_;
  BackOff went_back_;       // from modes that served, with these settings
  int threw_in_a_row_ = 0;  // full syncs of the active mode
  bool need_full_sync_ = false;
  bool adopted_ = false;
  bool rebuild_ = false;
};

}  // namespace pointsman::agent
