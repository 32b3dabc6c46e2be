#include "node-agent/handover/canaries.h"

#include <algorithm>
#include <iterator>

namespace pointsman::agent {

void Canaries::Begin(std::optional<Names> there, TimePoint now) {
  expected_ = std::move(there);
  due_ = now + Period();
}

Canaries::TimePoint::duration Canaries::Period() const {
  if (misses_ < kPatience) return kPeriod;
  return kFightPeriod;
}

void Canaries::Stop() {
  expected_.reset();
  due_ = TimePoint::max();
}

std::vector<std::string> Canaries::Missing(std::optional<Names> there, TimePoint now) {
  if (misses_ > 0 && now - first_miss_ > kMemory) misses_ = 0;
  due_ = now + Period();
  std::vector<std::string> missing;
  if (!there) return missing;
  if (expected_) {
    std::set_difference(expected_->begin(), expected_->end(), there->begin(), there->end(),
                        std::back_inserter(missing));
  }
  if (missing.empty()) {
    expected_ = std::move(there);
  } else if (misses_++ == 0) {
    first_miss_ = now;
  }
  return missing;
}

}  // namespace pointsman::agent
