#include "operator/runtime/write_pace.h"

#include <algorithm>

namespace pointsman::op {

WritePace::Clock::duration WritePace::Wait(const std::string& uid, Clock::time_point now) const {
  const auto last = last_.find(uid);
  if (last == last_.end()) return Clock::duration::zero();
  return std::clamp<Clock::duration>(last->second + interval_ - now, Clock::duration::zero(),
                                     interval_);
}

void WritePace::Wrote(const std::string& uid, Clock::time_point now) {
  // Who waits no more need not be remembered: objects come and go.
  std::erase_if(last_, [&](const auto& entry) { return entry.second + interval_ <= now; });
  last_[uid] = now;
}

}  // namespace pointsman::op
