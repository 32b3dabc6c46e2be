// When the leading operator saw what, by its own clock that never jumps. Everything that is waited
// for (minReady, soak, progressDeadline) is counted from here and not from times that a node, a
// person or another operator has written: clocks of machines differ, and are set.
//
// It is the planning's only memory. Losing it (another operator leads) costs time, never a
// decision: what was running out begins anew.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kube/pointsman/node_proxy.h"
#include "kube/time/rfc3339.h"

namespace pointsman::op {

// Seconds since any beginning (std::chrono::steady_clock).
using Instant = std::chrono::seconds;

// What was seen of one NodeProxy. Times are wall clock times of now's clock: an Instant that lies
// `age` back is now - age.
struct Sighting {
  // Since the specification asks for what it asks for (revision, or removal).
  kube::TimePoint changed{};
  // Since the candidate in it is asked for.
  kube::TimePoint asked{};
  // Since it runs what it is asked for and its agent says that it serves, without a break.
  std::optional<kube::TimePoint> serving;
  // It was seen not serving before that. Else `serving` is when this operator began to look.
  bool saw_turn = false;
  // Since its agent says that it does not serve.
  std::optional<kube::TimePoint> down;
  // Since its agent says Degraded of the present specification, without a break.
  std::optional<kube::TimePoint> degraded;
  // Since its agent says that kube-proxy may be restarted for what is asked for.
  std::optional<kube::TimePoint> prepared;
  // When it was last good enough to count (Stage::kAvailable).
  std::optional<kube::TimePoint> available;
  // By how much the node's clock is ahead of this operator's (negative: behind), at least; 0: not
  // known to be. As of the node's last report.
  std::chrono::seconds clock_ahead{0};
};

// Not thread-safe.
class Sightings {
 public:
  // Clocks that differ by less are no matter.
  static constexpr std::chrono::seconds kClocksAgree{60};

  // A pass begins: `now` is this machine's clock, which may have been set since the last one.
  void Begin(kube::TimePoint now, Instant instant);
  void See(const kube::NodeProxy& proxy);
  // All have been seen: what is known of others is forgotten.
  void End();

  // Of one that was seen in this pass.
  Sighting Of(const std::string& name) const;
  void Available(const std::string& name);

  // Since when that has been asked in every pass without a break: a fact that holds, and is not
  // asked for when it does not.
  kube::TimePoint Since(const std::string& fact);

  // kube-proxy's DaemonSet, in each pass: whether it leaves out the nodes taken over.
  void SeeDaemonSet(bool leaves_out);
  // It is changed to that now. Who puts it back again and again is followed ever more seldom.
  void ChangeDaemonSet();
  // When it may be changed again.
  kube::TimePoint DaemonSetDue() const;
  static constexpr std::chrono::seconds kFirstWait{2};
  static constexpr std::chrono::seconds kMostWait{1800};
  static constexpr std::chrono::seconds kHeld{3600};  // it is no fight: the waits begin anew

 private:
  struct Entry {
    std::string uid;
    uint64_t pass = 0;
    std::string change;  // what the specification asks for, and when that was written
    std::string question;
    std::string turned;   // the Ready condition's own time
    std::string reports;  // the times in the last report
    bool saw_change = false;
    bool saw_turn = false;
    Instant changed{};
    Instant changed_after{};  // when it was not yet so
    Instant asked{};
    std::optional<Instant> serving;
    std::optional<Instant> down;
    std::optional<Instant> degraded;
    std::optional<Instant> prepared;
    std::optional<Instant> available;
    std::chrono::seconds clock_ahead{0};
  };
  void SeeClock(Entry& entry, const kube::NodeProxy& proxy, bool reported);
  kube::TimePoint Wall(Instant instant) const { return now_ - (instant_ - instant); }

  struct Fact {
    Instant since{};
    uint64_t pass = 0;
  };
  struct DaemonSetSighting {
    std::optional<Instant> leaves_out;  // since
    std::optional<Instant> changed;
    int changes = 0;
  };

  kube::TimePoint now_{};
  Instant instant_{};
  Instant last_pass_{};
  uint64_t pass_ = 0;
  std::unordered_map<std::string, Entry> entries_;
  std::unordered_map<std::string, Fact> facts_;
  DaemonSetSighting daemon_set_;
};

}  // namespace pointsman::op
