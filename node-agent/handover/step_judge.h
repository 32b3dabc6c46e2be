// Judges the steps of a handover that may cut traffic off, without holding the sync thread up:
// looks at the traffic before a step and after it, a little at each tick (TrafficCheck).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "kube/pointsman/mode.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/steps.h"
#include "node-agent/handover/traffic_check.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// One step at a time. The sync thread's. Nothing here throws.
class StepJudge {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  // How often the traffic is looked at.
  static constexpr std::chrono::milliseconds kPoll{100};

  // Both outlive this.
  StepJudge(ModeEnvironment& environment, Steps& steps)
      : environment_(environment), steps_(steps) {}

  // When to look next; max: there is nothing to look at.
  TimePoint due() const { return due_; }

  enum class Look : uint8_t { kGoesOn, kDone, kFailed };
  // Until it does not go on. As TrafficCheck::Before says of the modes.
  Look Before(kube::Mode from, kube::Mode to, const ServiceModel& model);
  // How many things are compared, since Before was done.
  size_t compared() const { return compared_; }
  // Looked at before, and neither judged nor given up since.
  bool looked() const { return looked_; }

  // The step was just taken: what it made worse, as one sentence, "" if nothing. Then, unless that
  // is something, Watch until it says.
  std::string AfterStep(kube::Mode back_to);
  // What is judged may have to be undone in favour of that mode; nullopt: nothing is.
  std::optional<kube::Mode> back_to() const { return back_to_; }
  // The same as AfterStep, of what only time shows; nullopt: goes on.
  std::optional<std::string> Watch(const ServiceModel& model);
  // Of the last step that Watch found nothing wrong with.
  const TrafficFigures& figures() const { return figures_; }
  // What could not be looked at is not going to be.
  void ForgetFailure();
  // Whatever was looked at is of no interest any more.
  void Stop();

 private:
  ModeEnvironment& environment_;
  Steps& steps_;
  size_t compared_ = 0;
  bool looked_ = false;
  TrafficFigures figures_;
  std::optional<kube::Mode> back_to_;
  TimePoint due_ = TimePoint::max();
};

}  // namespace pointsman::agent
