#include "operator/plan/sightings.h"

#include <algorithm>

#include <fmt/format.h>

namespace pointsman::op {
namespace {

using kube::Condition;
using kube::ConditionStatus;
using kube::FindCondition;
using kube::NodeProxy;

std::string ChangeOf(const NodeProxy& proxy) {
  return fmt::format("{} {} {} {}", proxy.spec.configuration, proxy.spec.revision,
                     proxy.spec.removed, proxy.updated_at);
}

std::string QuestionOf(const NodeProxy& proxy) {
  if (!proxy.spec.candidate) return "";
  return fmt::format("{} {}", proxy.spec.candidate->revision, proxy.asked_at);
}

// Starts or ends a time that something holds.
void Keep(std::optional<Instant>& since, bool holds, Instant now) {
  if (!holds) {
    since.reset();
  } else if (!since) {
    since = now;
  }
}

}  // namespace

void Sightings::Begin(kube::TimePoint now, Instant instant) {
  last_pass_ = pass_ == 0 ? instant : instant_;
  now_ = now;
  instant_ = instant;
  std::erase_if(facts_, [this](const auto& fact) { return fact.second.pass != pass_; });
  ++pass_;
}

void Sightings::See(const NodeProxy& proxy) {
  Entry& entry = entries_[proxy.name];
  const bool known = entry.pass != 0 && entry.uid == proxy.uid;
  if (!known) entry = Entry{.uid = proxy.uid};
  // One that was not there in the pass before began before this operator's eyes.
  const bool watched = known || pass_ > 1;
  entry.pass = pass_;

  if (const std::string change = ChangeOf(proxy); !known || change != entry.change) {
    entry.change = change;
    entry.changed = instant_;
    entry.changed_after = last_pass_;
    entry.saw_change = watched;
    entry.available.reset();
    entry.serving.reset();
    entry.degraded.reset();
    entry.prepared.reset();
  }
  if (const std::string question = QuestionOf(proxy); !known || question != entry.question) {
    entry.question = question;
    entry.asked = instant_;
  }

  const kube::NodeProxyStatus& status = proxy.status;
  const Condition* ready = FindCondition(status.conditions, "Ready");
  const Condition* degraded = FindCondition(status.conditions, "Degraded");
  const bool spoke = status.observed_generation >= proxy.generation;
  const bool active = proxy.spec.revision > 0 && !proxy.spec.removed;
  // See LookAtTarget.
  const bool applied =
      active && (spoke || entry.available) && status.observed_revision == proxy.spec.revision;
  const bool serves = applied && ready != nullptr && ready->status == ConditionStatus::kTrue;
  const std::string turned = ready != nullptr ? ready->last_transition_time : "";
  // It was away for a moment between two passes.
  if (known && serves && turned != entry.turned) entry.serving.reset();
  if (serves && !entry.serving) entry.saw_turn = watched;
  Keep(entry.serving, serves, instant_);
  Keep(entry.down, active && ready != nullptr && ready->status == ConditionStatus::kFalse,
       instant_);
  Keep(entry.degraded,
       active && spoke && degraded != nullptr && degraded->status == ConditionStatus::kTrue,
       instant_);
  Keep(entry.prepared, active && status.prepared_revision == proxy.spec.revision, instant_);
  entry.turned = turned;

  const std::string reports = status.last_sync + " " + turned;
  if (!known || reports != entry.reports) {
    entry.reports = reports;
    SeeClock(entry, proxy, known);
  }
}

// Only what cannot be otherwise: a report that is here already was not made later than now, and one
// that answers a specification not before that was written. How long a report is under way is not
// known.
void Sightings::SeeClock(Entry& entry, const NodeProxy& proxy, bool reported) {
  entry.clock_ahead = {};
  const kube::NodeProxyStatus& status = proxy.status;
  const auto synced = kube::ParseTime(status.last_sync);
  // A condition keeps its time until it turns, so that of a clock that was put right meanwhile.
  const auto latest = synced ? synced : kube::ParseTime(entry.turned);
  if (latest && *latest - now_ > kClocksAgree) {
    entry.clock_ahead = *latest - now_;
  } else if (synced && reported && entry.saw_change &&
             status.observed_generation >= proxy.generation &&
             Wall(entry.changed_after) - *synced > kClocksAgree) {
    entry.clock_ahead = *synced - Wall(entry.changed_after);
  }
}

void Sightings::End() {
  std::erase_if(entries_, [this](const auto& item) { return item.second.pass != pass_; });
}

Sighting Sightings::Of(const std::string& name) const {
  const Entry& entry = entries_.at(name);
  const auto wall = [this](const std::optional<Instant>& instant) {
    return instant ? std::optional(Wall(*instant)) : std::nullopt;
  };
  return {.changed = Wall(entry.changed),
          .asked = Wall(entry.asked),
          .serving = wall(entry.serving),
          .saw_turn = entry.saw_turn,
          .down = wall(entry.down),
          .degraded = wall(entry.degraded),
          .prepared = wall(entry.prepared),
          .available = wall(entry.available),
          .clock_ahead = entry.clock_ahead};
}

kube::TimePoint Sightings::Since(const std::string& fact) {
  Fact& entry = facts_.try_emplace(fact, Fact{.since = instant_}).first->second;
  entry.pass = pass_;
  return Wall(entry.since);
}

void Sightings::SeeDaemonSet(bool leaves_out) {
  Keep(daemon_set_.leaves_out, leaves_out, instant_);
  if (leaves_out && instant_ - *daemon_set_.leaves_out > kHeld) daemon_set_.changes = 0;
}

void Sightings::ChangeDaemonSet() {
  constexpr int kMostChanges = 16;  // the wait is longest long before
  daemon_set_.changes = std::min(daemon_set_.changes + 1, kMostChanges);
  daemon_set_.changed = instant_;
}

kube::TimePoint Sightings::DaemonSetDue() const {
  if (daemon_set_.changes == 0) return now_;
  const std::chrono::seconds wait = kFirstWait * (1 << (daemon_set_.changes - 1));
  return Wall(*daemon_set_.changed + std::min(wait, kMostWait));
}

void Sightings::Available(const std::string& name) {
  entries_.at(name).available = instant_;
}

}  // namespace pointsman::op
