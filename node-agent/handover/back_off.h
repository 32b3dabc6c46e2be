// When a step that failed is tried again: soon, and then ever more seldom.
#pragma once

#include <algorithm>
#include <chrono>

namespace pointsman::agent {

class BackOff {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // The first wait, doubled each time up to `most` (not below `first`).
  Duration Next(Duration first, Duration most) {
    wait_ = wait_ == Duration::zero() ? first : std::min(wait_ * 2, std::max(first, most));
    return wait_;
  }
  void Reset() { wait_ = Duration::zero(); }

 private:
  Duration wait_ = Duration::zero();
};

}  // namespace pointsman::agent
