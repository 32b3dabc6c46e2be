// The next moment at which something changes by itself, as planning collects it.
#pragma once

#include <algorithm>
#include <optional>

#include "kube/time/rfc3339.h"

namespace pointsman::op {

inline void WakeAt(std::optional<kube::TimePoint>& wake_up, kube::TimePoint when) {
  wake_up = wake_up ? std::min(*wake_up, when) : when;
}

// Whether `when` is here; if not, it is a moment to look again.
inline bool Reached(std::optional<kube::TimePoint>& wake_up, kube::TimePoint when,
                    kube::TimePoint now) {
  if (when <= now) return true;
  WakeAt(wake_up, when);
  return false;
}

}  // namespace pointsman::op
