// Waiting for something that takes its time: not until a time is over, which a busy machine needs
// more of, but until nothing has moved for one.
#pragma once

#include <chrono>
#include <string>

namespace pointsman::e2e {

// How far something is. `state` is a line for a person that changes with every step.
struct Progress {
  std::string state;
  bool done = false;
};

// Not thread-safe.
class StallWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // `patience`: how long the state may stay as it is.
  StallWatch(std::chrono::seconds patience, Clock::time_point now);

  // Notes how far it is; true: since last time it has moved.
  bool Moved(const std::string& state, Clock::time_point now);
  // Whether the state that was noted last has been the same for longer than `patience`.
  bool Stalled(Clock::time_point now) const { return now - since_ > patience_; }
  const std::string& state() const { return state_; }

 private:
  const std::chrono::seconds patience_;
  std::string state_;
  Clock::time_point since_;  // of the state
};

}  // namespace pointsman::e2e
