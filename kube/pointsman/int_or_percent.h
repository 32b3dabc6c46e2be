// "3" or "25%", as Kubernetes has it (intstr.IntOrString).
#pragma once

#include <algorithm>
#include <cstdint>

namespace pointsman::kube {

struct IntOrPercent {
  int64_t value = 1;
  bool percent = false;
  // Of `total`; a percentage is rounded down, but at least 1: 0 would never get anywhere.
  int64_t Of(int64_t total) const {
    return std::max<int64_t>(1, percent ? total * value / 100 : value);
  }
  bool operator==(const IntOrPercent&) const = default;
};

}  // namespace pointsman::kube
