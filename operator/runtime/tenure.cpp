#include "operator/runtime/tenure.h"

#include <utility>

namespace pointsman::op {

Tenure::Period::Period(Tenure& tenure, std::stop_token stop, std::function<bool()> held)
    : tenure_(tenure) {
  const std::lock_guard lock(tenure_.mutex_);
  tenure_.stop_ = std::move(stop);
  tenure_.held_ = std::move(held);
}

Tenure::Period::~Period() {
  const std::lock_guard lock(tenure_.mutex_);
  tenure_.lost_ = !tenure_.held_();
  tenure_.held_ = nullptr;
}

bool Tenure::MayWrite() const {
  const std::lock_guard lock(mutex_);
  return held_ && !stop_.stop_requested() && held_();
}

bool Tenure::MayEmitEvents() const {
  const std::lock_guard lock(mutex_);
  return held_ ? held_() : !lost_;
}

}  // namespace pointsman::op
