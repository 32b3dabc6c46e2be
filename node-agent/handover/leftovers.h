// Dataplanes that neither serve nor drain and are to be taken out of the kernel: tried again, ever
// more seldom, until each is gone.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/back_off.h"
#include "node-agent/handover/steps.h"

namespace pointsman::agent {

// The sync thread's.
class Leftovers {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // The waits after a removal that failed: from `first` up to `most`. `steps` outlives this.
  Leftovers(Steps& steps, BackOff::Duration first, BackOff::Duration most)
      : steps_(steps), first_(first), most_(most) {}

  // Whether all of it is gone; what is not is in the steps.
  bool Remove(Dataplane& dataplane);
  // Removes it at the next RemoveAll at or after `due`.
  void Add(std::unique_ptr<Dataplane> dataplane, TimePoint due);
  // After a removal at `now` that failed.
  void AddFailed(std::unique_ptr<Dataplane> dataplane, TimePoint now);
  // Tries each; true if one is gone.
  bool RemoveAll(TimePoint now);
  // What is programmed now is no leftover of that mode any more.
  void Forget(kube::Mode mode);
  void clear();
  bool Has(kube::Mode mode) const;
  TimePoint due() const { return due_; }  // max: there is none

 private:
  Steps& steps_;
  const BackOff::Duration first_;
  const BackOff::Duration most_;
  BackOff back_off_;
  std::vector<std::unique_ptr<Dataplane>> dataplanes_;
  TimePoint due_ = TimePoint::max();
};

}  // namespace pointsman::agent
