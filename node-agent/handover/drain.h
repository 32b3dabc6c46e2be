// The mode that only carries the connections it already had: until they have ended or its time is
// up, then its objects are removed from the kernel.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "kube/pointsman/mode.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/leftovers.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/mode_state.h"
#include "node-agent/handover/steps.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// One mode at a time. The sync thread's.
class Drain {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // How often a drain is looked at, at most; and how many times as long as a look takes the next
  // one waits: with a million connections one takes a second, in which no change is written.
  static constexpr std::chrono::seconds kPoll{1};
  static constexpr int kPollShare = 10;
  // How often it is asked whether what is over may be removed.
  static constexpr std::chrono::milliseconds kEndPoll{100};

  // All outlive this. `retry`: the wait after a look that failed.
  Drain(ModeEnvironment& environment, Steps& steps, Leftovers& leftovers,
        std::chrono::seconds retry)
      : environment_(environment), steps_(steps), leftovers_(leftovers), retry_(retry) {}

  bool running() const { return dataplane_ != nullptr; }
  std::optional<kube::Mode> mode() const;
  // What it carried at the last look.
  uint64_t connections() const { return connections_; }
  const DrainedConnections& drained() const { return drained_; }  // since the start
  TimePoint due() const { return due_; }  // of the next Poll; max: nothing drains
  Dataplane* dataplane() { return dataplane_.get(); }

  // Nothing drains yet. Poll is due at once.
  void Begin(std::unique_ptr<Dataplane> dataplane, TimePoint deadline);
  void EndBy(TimePoint deadline);
  // True: it has ended, and its objects are gone from the kernel. `may_end`: asked when it is over,
  // whether they may go; if not, it is asked again.
  bool Poll(const ServiceModel& model, const std::function<bool()>& may_end);
  // Removes it, whatever it carries; true: its objects are gone. What cannot be removed is among
  // the leftovers.
  bool End();
  // Leaves its objects where they are: this mode is about to serve again, with the connections it
  // has, or the agent has removed them.
  void Abandon();

 private:
  bool Look(const ServiceModel& model);  // true: it is over
  bool Count(const ServiceModel& model);

  ModeEnvironment& environment_;
  Steps& steps_;
  Leftovers& leftovers_;
  const std::chrono::seconds retry_;
  std::unique_ptr<Dataplane> dataplane_;
  uint64_t connections_ = 0;
  uint64_t end_with_it_ = 0;  // of these
  uint64_t most_ = 0;         // of the looks at this one
  DrainedConnections drained_;
  bool over_ = false;  // only its removal is left
  TimePoint deadline_{};
  TimePoint due_ = TimePoint::max();
};

}  // namespace pointsman::agent
