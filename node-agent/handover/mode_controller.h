// Which mode runs on this node, and the move from one to another: preflight, fallback, make before
// break, draining, and going back when the new mode does not carry traffic. Knows no API.
//
// The order of a handover (docs/handover.md has the reasons):
//   1. preflight of the asked mode, then of the fallback modes, in order;
//   2. the new dataplane is programmed whole and read back, the old one untouched;
//   3. the old one drains: no new connections, the established ones go on;
//   4. probes that passed before must pass now, else the old one takes the traffic back and the new
//      one is removed;
//   5. when they have ended, or after the drain timeout, the old one's objects are removed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/back_off.h"
#include "node-agent/handover/canaries.h"
#include "node-agent/handover/leftovers.h"
#include "node-agent/handover/steps.h"
#include "node-agent/handover/traffic_check.h"
#include "node-agent/preflight/preflight.h"

namespace pointsman::agent {

// What the controller needs of the rest of the agent. All called on the sync thread. Any of it may
// throw: the controller tries it again and serves meanwhile what it can.
class ModeEnvironment {
 public:
  virtual ~ModeEnvironment() = default;
  // The dataplane if anything of that mode of ours is in the kernel, else null; also null for a
  // mode that this node cannot have.
  virtual std::unique_ptr<Dataplane> FindInKernel(kube::Mode mode,
                                                  const kube::ProxySettings& settings) = 0;
  // For a mode whose preflight passed. Never null.
  virtual std::unique_ptr<Dataplane> MakeDataplane(kube::Mode mode,
                                                   const kube::ProxySettings& settings) = 0;
  virtual PreflightResult Preflight(kube::Mode mode, const kube::ProxySettings& settings,
                                    bool load) = 0;
  // The families that are to be served on this node: those whose problems count.
  virtual std::vector<net::Family> Families() const = 0;
  // Changes when MakeDataplane can do more than before: what it made earlier is made anew.
  virtual uint64_t Generation() const { return 0; }
  // Rules that settings.mode and other modes share; they outlive each dataplane. A family that
  // cannot be served in that mode is a problem of that family.
  virtual SyncResult EnsureBase(const kube::ProxySettings& settings) = 0;
  virtual SyncResult RemoveBase(const kube::ProxySettings& settings) = 0;
  virtual TrafficCheck& Traffic() = 0;
  // Of what that mode has in the kernel, the names of a few things that are there as long as nobody
  // but us takes its rules away. Quickly asked: the sync thread does it between two changes.
  virtual Canaries::Names CanariesOf(kube::Mode mode) = 0;
  virtual std::chrono::steady_clock::time_point Now() = 0;
};

// A snapshot for status and metrics.
struct ModeState {
  std::optional<kube::Mode> asked;
  std::optional<kube::Mode> active;
  std::optional<kube::Mode> draining;
  uint64_t draining_connections = 0;
  // Of the asked mode.
  std::optional<PreflightResult> preflight;
  // Why the active mode is not the asked one, "" if it is; for a person.
  std::string fallback_reason;
  // The handover to the asked mode was taken back; what failed.
  std::string reverted_reason;
  // No mode could be programmed or the last sync left something out.
  std::vector<SyncProblem> problems;
  // `problems` leave no family served as it is to be: the sync as a whole did not go through.
  // False: nothing did, or one family's did not and the other is served.
  bool failed = false;
  // What was asked is not in effect yet, since a step to it failed and is tried again; "" else.
  std::string unfinished;
  // Of the active mode, with what it was refused for single Services; sorted.
  std::vector<ServiceWarning> warnings;
  size_t refused_entries = 0;  // Service ports of which something was refused
  uint64_t full_syncs = 0;
  uint64_t syncs = 0;
  uint64_t repaired = 0;
  // SyncResult::rules of the active mode's last full sync.
  std::map<std::string, uint64_t> rules;
  bool synced_once = false;  // the active mode has been written whole at least once
};

// Not thread-safe: the sync thread owns it.
class ModeController {
 public:
  explicit ModeController(ModeEnvironment& environment) : environment_(environment) {}

  // New settings (or the same again after a failure, see NextDeadline). `model` must be complete:
  // never call it before the caches have synced, or traffic of what is missing is cut.
  void Apply(const kube::ProxySettings& settings, const ServiceModel& model);
  // The next Apply makes the dataplane anew, though the settings may be as before: the environment
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
  // How often a drain is looked at, at most; and how many times as long as a look takes the next
  // one waits: with a million connections one takes a second, in which no change is written.
  static constexpr std::chrono::seconds kDrainPoll{1};
  static constexpr int kDrainPollShare = 10;
  // After so many full syncs in a row that threw, the dataplane is made anew.
  static constexpr int kThrewTooOften = 3;
  // After a reverted handover the asked mode is tried again so seldom, unless the settings change.
  static constexpr std::chrono::minutes kRevertedRetry{5};

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  std::optional<kube::Mode> Choose(const kube::ProxySettings& settings);
  PreflightResult AskPreflight(kube::Mode mode, const kube::ProxySettings& settings, bool& asked);
  SyncResult EnsureBase(const kube::ProxySettings& settings, kube::Mode mode);
  void AdoptWhatIsThere(const kube::ProxySettings& settings);
  void Adopt(std::unique_ptr<Dataplane> dataplane, const kube::ProxySettings& settings);
  void LookAgain(const ServiceModel& model);
  bool Program(Dataplane& dataplane, const ServiceModel& model, bool verify,
               const std::vector<ClientBinding>& bindings = {});
  std::vector<SyncProblem> Differences(Dataplane& dataplane, const ServiceModel& model,
                                       const std::vector<SyncProblem>& known);
  std::unique_ptr<Dataplane> Make(kube::Mode mode, const kube::ProxySettings& settings);
  bool MakeActiveAnew(const kube::ProxySettings& settings);
  void HandOver(kube::Mode mode, const ServiceModel& model);
  void TakeBack(std::unique_ptr<Dataplane> next, const std::string& failed,
                const ServiceModel& model);
  void BeginDrain(const ServiceModel& model);
  void Unfinished(const std::string& why);
  std::string NoLongerServed() const;
  std::vector<ClientBinding> BoundClients(const ServiceModel& model);
  static void Bind(Dataplane& dataplane, const ServiceModel& model,
                   const std::vector<ClientBinding>& bindings);
  std::string MoveNewConnections(const ServiceModel& model);
  void Resync(const ServiceModel& model);
  void SetProblems(std::vector<SyncProblem> problems);
  bool Failed(const std::vector<SyncProblem>& problems) const;
  void ShowWarnings();
  void ScheduleResync(bool refused);
  void PollDrain(const ServiceModel& model);
  void EndDrain();
  void RenewAfterRemoval();
  std::optional<Canaries::Names> LookForCanaries();
  void WatchCanaries();
  void MissCanaries(const ServiceModel& model);
  kube::Duration ActiveSyncPeriod() const;
  TimePoint ResyncDue() const;

  ModeEnvironment& environment_;
  Steps steps_;
  std::optional<kube::ProxySettings> settings_;
  ModeState state_;
  std::unique_ptr<Dataplane> active_;
  kube::ProxySettings active_settings_;
  uint64_t made_generation_ = 0;  // of the environment, when active_ was made
  // Families that the active mode did not get into the kernel with its last full sync.
  std::vector<net::Family> not_served_;
  std::vector<SyncProblem> base_problems_;     // of one family; the last look at the shared rules
  std::vector<ServiceWarning> mode_warnings_;  // the dataplane's
  ServiceRefusals refusals_;
  std::unique_ptr<Dataplane> draining_;
  Leftovers leftovers_{steps_, kRetry, kLongestRetry};  // removed as soon as another mode serves
  std::vector<kube::Mode> not_looked_for_;  // whether the kernel has anything of them is not known
  TimePoint drain_deadline_{};
  TimePoint next_drain_poll_ = TimePoint::max();
  TimePoint next_resync_ = TimePoint::max();
  TimePoint next_choice_ = TimePoint::max();
  TimePoint next_look_ = TimePoint::max();
  Canaries canaries_;  // of the active mode
  BackOff choice_back_off_;
  BackOff preflight_back_off_;  // while one cannot be made
  BackOff resync_back_off_;
  BackOff look_back_off_;
  int threw_in_a_row_ = 0;  // full syncs of the active mode
  bool need_full_sync_ = false;
  bool adopted_ = false;
  bool rebuild_ = false;
};

}  // namespace pointsman::agent
