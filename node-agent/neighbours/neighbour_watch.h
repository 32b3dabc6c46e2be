// The neighbours on this node, looked for now and then.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "node-agent/neighbours/survey.h"

namespace pointsman::agent {

// Not thread-safe. Looks in the network namespace of the calling thread.
class NeighbourWatch {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // What was found is not looked for again sooner; and not before a hundred times as long as the
  // look took, however much others have in the kernel.
  static constexpr std::chrono::seconds kFresh{5};
  static constexpr int kShare = 100;

  explicit NeighbourWatch(std::string modules_root)  // see ReadSigns
      : modules_root_(std::move(modules_root)) {}

  void Look(TimePoint now);
  const std::vector<Finding>& findings() const { return findings_; }
  const std::vector<std::string>& unread() const { return signs_.unread; }

 private:
  const std::string modules_root_;
  const std::vector<SignPattern> patterns_ = PatternsOf(Neighbours());
  Signs signs_;
  std::vector<Finding> findings_;
  TimePoint next_look_ = TimePoint::min();
};

}  // namespace pointsman::agent
