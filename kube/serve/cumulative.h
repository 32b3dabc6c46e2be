// A Prometheus counter of what is counted elsewhere as a sum since that was made.
#pragma once

#include <cstdint>

#include <prometheus/counter.h>

namespace pointsman::kube {

// Raises `counter` to `sum`. A smaller sum (it was counted from the beginning again) changes
// nothing until it has caught up. Thread-safe, but two threads that raise one counter at the same
// time may count twice.
inline void RaiseTo(prometheus::Counter& counter, uint64_t sum) {
  const double missing = static_cast<double>(sum) - counter.Value();
  if (missing > 0) counter.Increment(missing);
}

}  // namespace pointsman::kube
