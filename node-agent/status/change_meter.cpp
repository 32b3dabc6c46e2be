#include "node-agent/status/change_meter.h"

#include <algorithm>
#include <vector>

#include "kube/pointsman/limits.h"

namespace pointsman::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

std::optional<int64_t> Median(const std::deque<nanoseconds>& times) {
  if (times.size() < ChangeMeter::kFewestSyncs) return std::nullopt;
  std::vector<nanoseconds> sorted(times.begin(), times.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return RoundedMilliseconds(*middle);
}

void Raise(std::optional<int64_t>& figure, uint64_t by) {
  const uint64_t sum = static_cast<uint64_t>(figure.value_or(0)) + by;
  figure = static_cast<int64_t>(std::min<uint64_t>(sum, kube::limits::kMaxCount));
}

}  // namespace

int64_t RoundedMilliseconds(nanoseconds time) {
  const int64_t exact = std::chrono::ceil<milliseconds>(time).count();
  int64_t rounded = 1;
  for (int step = 0; rounded < exact && rounded < kube::limits::kMaxCount / 10; ++step)
    rounded = step % 3 == 1 ? rounded / 2 * 5 : rounded * 2;
  return rounded;
}

void ChangeMeter::Continue(int64_t revision, const std::optional<kube::ChangeImpact>& reported,
                           const HandoverToll& toll) {
  impact_ = reported;
  taken_ = toll;
  if (revision == 0 || (impact_ && impact_->revision == revision)) return;
  Begin(revision, std::nullopt, toll);
}

void ChangeMeter::Begin(int64_t revision, std::optional<size_t> refused, const HandoverToll& toll) {
  kube::ChangeImpact begun;
  begun.revision = revision;
  begun.sync_before = Median(syncs_);
  if (!begun.sync_before && impact_) begun.sync_before = impact_->sync_after;
  if (refused) begun.refused_before = static_cast<int64_t>(*refused);
  impact_ = begun;
  taken_ = toll;
  syncs_.clear();
}

void ChangeMeter::SyncTook(nanoseconds time) {
  syncs_.push_back(time);
  if (syncs_.size() > kSyncs) syncs_.pop_front();
}

void ChangeMeter::TakeToll(const HandoverToll& toll) {
  const TrafficFigures& now = toll.traffic;
  const TrafficFigures& then = taken_.traffic;
  if (now.after > then.after) {
    Raise(impact_->connections_before, now.before - then.before);
    Raise(impact_->failed_before, now.failed_before - then.failed_before);
    Raise(impact_->connections_after, now.after - then.after);
    Raise(impact_->failed_after, now.failed_after - then.failed_after);
  }
  Raise(impact_->cut_connections, toll.cut_connections - taken_.cut_connections);
  taken_ = toll;
}

std::optional<kube::ChangeImpact> ChangeMeter::Report(bool in_effect, size_t refused,
                                                      const HandoverToll& toll) {
  if (!impact_) return std::nullopt;
  TakeToll(toll);
  if (in_effect && !impact_->refused_after) {
    impact_->refused_after = static_cast<int64_t>(refused);
    syncs_.clear();  // those until now were of both
  }
  if (in_effect) {
    if (const auto median = Median(syncs_)) impact_->sync_after = median;
  }
  return impact_;
}

}  // namespace pointsman::agent
