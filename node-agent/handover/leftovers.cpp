#include "node-agent/handover/leftovers.h"

#include <algorithm>

#include "node-agent/dataplane/sync_problems.h"

namespace pointsman::agent {

bool Leftovers::Remove(Dataplane& dataplane) {
  const std::string_view mode = kube::ToString(dataplane.mode());
  const auto removed = steps_.Try("remove", mode, [&] { return dataplane.Remove(); });
  if (!removed) return false;
  if (!removed->ok()) steps_.Failed("remove", mode, Describe(removed->problems));
  return removed->ok();
}

void Leftovers::Add(std::unique_ptr<Dataplane> dataplane, TimePoint due) {
  dataplanes_.push_back(std::move(dataplane));
  due_ = std::min(due_, due);
}

void Leftovers::AddFailed(std::unique_ptr<Dataplane> dataplane, TimePoint now) {
  Add(std::move(dataplane), now + back_off_.Next(first_, most_));
}

bool Leftovers::RemoveAll(TimePoint now) {
  const size_t removed =
      std::erase_if(dataplanes_, [this](const auto& leftover) { return Remove(*leftover); });
  if (dataplanes_.empty()) {
    clear();
  } else {
    due_ = now + back_off_.Next(first_, most_);
  }
  return removed > 0;
}

void Leftovers::Forget(kube::Mode mode) {
  std::erase_if(dataplanes_, [mode](const auto& leftover) { return leftover->mode() == mode; });
  steps_.Forget("remove", kube::ToString(mode));
  if (dataplanes_.empty()) clear();
}

bool Leftovers::Has(kube::Mode mode) const {
  return std::any_of(dataplanes_.begin(), dataplanes_.end(),
                     [mode](const auto& leftover) { return leftover->mode() == mode; });
}

void Leftovers::clear() {
  dataplanes_.clear();
  back_off_.Reset();
  due_ = TimePoint::max();
}

}  // namespace pointsman::agent
