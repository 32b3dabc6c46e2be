// Whether Services' traffic flows as well after a handover as before it: the question that decides
// if the new mode stays. How it is judged is not the mode controller's concern.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// Called on the sync thread, in which no change is written meanwhile: each call takes seconds at
// the most. What it throws is why it could not look.
class TrafficCheck {
 public:
  virtual ~TrafficCheck() = default;

  // `from` serves, and `to` is about to be written. Remembers what works now; what does not is
  // never held against the new mode. Returns how many things that are. If it throws, the handover
  // waits.
  virtual size_t Before(kube::Mode from, kube::Mode to, const ServiceModel& model) = 0;

  // New connections go to `to` since a moment ago. Of what worked in Before, what does not any
  // more, for a person: empty if the handover may go on.
  virtual std::vector<std::string> AfterSwitch() = 0;
};

}  // namespace pointsman::agent
