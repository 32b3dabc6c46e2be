#include "e2e/scenarios/stall_watch.h"

namespace pointsman::e2e {

StallWatch::StallWatch(std::chrono::seconds patience, Clock::time_point now)
    : patience_(patience), since_(now) {}

bool StallWatch::Moved(const std::string& state, Clock::time_point now) {
  if (state == state_) return false;
  state_ = state;
  since_ = now;
  return true;
}

}  // namespace pointsman::e2e
