#include "node-agent/agent/sync_measure.h"

#include <algorithm>
#include <utility>

namespace pointsman::agent {
namespace {

// Triggers that wait for a sync to succeed.
constexpr size_t kMaxTriggers = 100'000;

}  // namespace

void SyncMeasure::SawTrigger(const kube::EndpointSlice& slice) {
  const auto& trigger = slice.last_change_trigger;
  if (trigger && *trigger > began_ && triggers_.size() < kMaxTriggers)
    triggers_.push_back(*trigger);
}

void SyncMeasure::Begin() {
  full_syncs_ = state_.full_syncs;
  syncs_ = state_.syncs;
  failed_tool_calls_ = environment_.FailedToolCalls();
}

void SyncMeasure::End() {
  full_ = state_.full_syncs != full_syncs_;
  wrote_ = full_ || state_.syncs != syncs_;
}

void SyncMeasure::Report(TimePoint started, std::optional<TimePoint> oldest) {
  const uint64_t failed = environment_.FailedToolCalls() - failed_tool_calls_;
  if (failed > 0) metrics_.ToolsFailed(failed, /*partial=*/!full_);
  if (wrote_ && !state_.problems.empty() && state_.active) metrics_.SyncFailed(*state_.active);
  if (state_.failed) return;
  const TimePoint now = std::chrono::steady_clock::now();
  if (wrote_) metrics_.SyncDone(full_, now - started);
  if (wrote_ && oldest) metrics_.ChangeReachedKernel(now - *oldest);
  ReportTriggers();
}

// What they changed is in the kernel now, unless nothing is asked of this node.
void SyncMeasure::ReportTriggers() {
  const auto now = std::chrono::system_clock::now();
  const bool serves = state_.active && state_.synced_once;
  for (const kube::TimePoint trigger : std::exchange(triggers_, {})) {
    // Another machine's clock said it.
    if (serves) metrics_.NetworkProgrammed(std::max(now - trigger, decltype(now - trigger){}));
  }
}

}  // namespace pointsman::agent
