// What the change to a revision does to this node's traffic: the figures of
// NodeProxy.status.impact.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "kube/pointsman/change_impact.h"
#include "node-agent/handover/mode_state.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it. The figures are rounded and come seldom, since each new
// one is a write of the status: 5,000 nodes have them.
class ChangeMeter {
 public:
  // Of so many syncs the median is taken, of the last; of fewer than kFewestSyncs there is none.
  static constexpr size_t kSyncs = 31;
  static constexpr size_t kFewestSyncs = 5;

  // The first look at what is asked of this node: `reported` is what an agent before this one has
  // measured, and goes on if it is of `revision`.
  void Continue(int64_t revision, const std::optional<kube::ChangeImpact>& reported,
                const HandoverToll& toll);
  // Another revision is asked for. `refused`: Services that are not served as specified until now;
  // nullopt: not known.
  void Begin(int64_t revision, std::optional<size_t> refused, const HandoverToll& toll);
  // A change of Services or endpoints took that to the kernel.
  void SyncTook(std::chrono::nanoseconds time);

  // `in_effect`: the revision is. `refused`: Services that are not served as specified now.
  std::optional<kube::ChangeImpact> Report(bool in_effect, size_t refused,
                                           const HandoverToll& toll);

 private:
  void TakeToll(const HandoverToll& toll);

  std::optional<kube::ChangeImpact> impact_;  // nullopt: nothing was asked for yet
  HandoverToll taken_;                        // is in impact_
  std::deque<std::chrono::nanoseconds> syncs_;
};

// Up to the next of 1, 2, 5, 10, 20, … milliseconds.
int64_t RoundedMilliseconds(std::chrono::nanoseconds time);

}  // namespace pointsman::agent
