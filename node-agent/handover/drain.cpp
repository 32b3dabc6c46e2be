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
  connections_ = most_ = end_with_it_ = 0;
  over_ = false;
  deadline_ = deadline;
  due_ = environment_.Now();
}

void Drain::EndBy(TimePoint deadline) {
  deadline_ = std::min(deadline_, deadline);
  due_ = std::min(due_, deadline_);
}

bool Drain::Poll(const ServiceModel& model, const std::function<bool()>& may_end) {
  const bool waited = over_;
  if (!over_ && !Look(model)) return false;
  over_ = true;
  if (may_end()) {
    // Some have ended since. What cannot be counted once more is as many as before.
    if (waited && end_with_it_ > 0 && !Count(model))
      steps_.Forget("drain", kube::ToString(dataplane_->mode()));
    return End();
  }
  due_ = environment_.Now() + kEndPoll;
  return false;
}

// False: it could not be counted.
bool Drain::Count(const ServiceModel& model) {
  const auto drained = steps_.Try("drain", kube::ToString(dataplane_->mode()),
                                  [&] { return dataplane_->Drain(model); });
  if (!drained) return false;
  connections_ = drained->connections;
  end_with_it_ = drained->end_with_it;
  most_ = std::max(most_, connections_);
  return true;
}

bool Drain::Look(const ServiceModel& model) {
  const TimePoint begin = environment_.Now();
  const bool drained = Count(model);
  const TimePoint now = environment_.Now();
  if ((drained && connections_ == 0) || now >= deadline_) {
    steps_.Forget("drain", kube::ToString(dataplane_->mode()));
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
  const uint64_t cut = end_with_it_;
  drained_.left += left;
  drained_.cut += cut;
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
    spdlog::info("{} is removed; {} connections were left at the drain timeout, {} of them ended",
                 mode, left, cut);
  }
  return true;
}

void Drain::Abandon() {
  dataplane_.reset();
  connections_ = most_ = end_with_it_ = 0;
  over_ = false;
  due_ = TimePoint::max();
}

}  // namespace pointsman::agent
