#include "node-agent/handover/drain.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

namespace pointsman::agent {

std::optional<kube::Mode> Drain::mode() const {
  if (dataplane_ == nullptr) return std::nullopt;
  return dataplane_->mode();
}

void Drain::Begin(std::unique_ptr<Dataplane> dataplane, TimePoint deadline) {
  dataplane_ = std::move(dataplane);
  connections_ = most_ = 0;
  over_ = false;
  deadline_ = deadline;
  due_ = environment_.Now();
}

void Drain::EndBy(TimePoint deadline) {
  deadline_ = std::min(deadline_, deadline);
  due_ = std::min(due_, deadline_);
}

bool Drain::Poll(const ServiceModel& model, const std::function<bool()>& may_end) {
  if (!over_ && !Look(model)) return false;
  over_ = true;
  if (may_end()) return End();
  due_ = environment_.Now() + kEndPoll;
  return false;
}

bool Drain::Look(const ServiceModel& model) {
  const std::string_view mode = kube::ToString(dataplane_->mode());
  const TimePoint begin = environment_.Now();
  const auto drained = steps_.Try("drain", mode, [&] { return dataplane_->Drain(model); });
  const TimePoint now = environment_.Now();
  if (drained) connections_ = drained->connections;
  most_ = std::max(most_, connections_);
  if ((drained && drained->connections == 0) || now >= deadline_) {
    steps_.Forget("drain", mode);
    return true;
  }
  const TimePoint::duration wait =
      drained ? std::max<TimePoint::duration>(kPoll, kPollShare * (now - begin)) : retry_;
  due_ = std::min(now + wait, deadline_);
  return false;
}

bool Drain::End() {
  auto dataplane = std::move(dataplane_);
  const uint64_t left = connections_;
  drained_.left += left;
  drained_.ended += most_ - left;
  Abandon();
  const std::string_view mode = kube::ToString(dataplane->mode());
  if (!leftovers_.Remove(*dataplane)) {
    leftovers_.AddFailed(std::move(dataplane), environment_.Now());
    return false;
  }
  if (left == 0) {
    spdlog::info("{} is drained and removed", mode);
  } else {
    spdlog::info("{} is removed; {} connections were left at the drain timeout", mode, left);
  }
  return true;
}

void Drain::Abandon() {
  dataplane_.reset();
  connections_ = most_ = 0;
  over_ = false;
  due_ = TimePoint::max();
}

}  // namespace pointsman::agent
