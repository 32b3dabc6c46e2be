// Whether Services' traffic flows as well after a step of a handover as before it: the question
// that decides if the step stays. Two steps are judged: new connections go to another mode; the
// mode before is removed. How it is judged is not the mode controller's concern.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// New connections of clients that were answered before: those before a step and after it, and those
// that failed.
struct TrafficFigures {
  uint64_t before = 0;
  uint64_t failed_before = 0;
  uint64_t after = 0;
  uint64_t failed_after = 0;
  void Add(const TrafficFigures& other) {
    before += other.before;
    failed_before += other.failed_before;
    after += other.after;
    failed_after += other.failed_after;
  }
};

// For each step: SeenEnough until it is true, Before, the step, AfterSwitch, Verdict until there is
// one. Called on the sync thread, in which no change is written meanwhile: each call takes seconds
// at the most, and what takes longer is waited for between two calls. What a call throws is why it
// could not look.
class TrafficCheck {
 public:
  virtual ~TrafficCheck() = default;

  // A step is to come. The first call begins to look at the traffic there is, later ones go on.
  // True: enough has been seen for Before.
  virtual bool SeenEnough(const ServiceModel& model) {
    static_cast<void>(model);
    return true;
  }

  // `from` serves, and `to` is about to be written; the same mode twice: it goes on serving, and
  // the one before it is about to be removed. Remembers what works now; what does not is never held
  // against the step. Returns how many things that are. If it throws, a handover waits.
  virtual size_t Before(kube::Mode from, kube::Mode to, const ServiceModel& model) = 0;

  // The step was taken a moment ago. Of what worked in Before, what does not any more, for a
  // person: empty if it may stay as far as one can tell at once.
  virtual std::vector<std::string> AfterSwitch() = 0;

  // The same of what only time shows; nullopt: not known yet. Called only after an AfterSwitch that
  // was empty.
  virtual std::optional<std::vector<std::string>> Verdict(const ServiceModel& model) {
    static_cast<void>(model);
    return std::vector<std::string>{};
  }

  // Of the step that the last Verdict was on, if that was empty: it need not be so bad that the
  // step is undone. All 0 where nothing was compared.
  virtual TrafficFigures Figures() { return {}; }

  // No further call of this step comes: it is not taken, or known to be a bad one.
  virtual void Stop() {}
};

}  // namespace pointsman::agent
