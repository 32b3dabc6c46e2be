// One governed node, seen from the revision it should run.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"
#include "operator/plan/assignment.h"
#include "operator/plan/revision.h"
#include "operator/plan/sightings.h"

namespace pointsman::op {

// What a failure may go on with.
inline constexpr const char* kNotPrepared =
    ": its agent does not say that kube-proxy may be restarted";

// How far the node has come with the target revision, in order. From kSilent and kUnable it goes on
// only when its agent says something else.
enum class Stage : uint8_t {
  kNotAsked,   // whether it can run the target
  kAsked,      // and its agent has not answered yet
  kSilent,     // nor by the progress deadline
  kUnable,     // it answered: no mode of the target can run there
  kAble,       // it answered: one can
  kOrdered,    // the spec asks for the target
  kApplied,    // and the agent runs it
  kAvailable,  // and has served for minReady
};

// What became of the last order to change, of this revision or of an earlier one.
enum class Order : uint8_t {
  kSettled,   // carried out, or given up where it was of an earlier revision; or there was none
  kUnderWay,  //
  kOverdue,   // of the target: not available by the progress deadline
  kLost,  // the same, and the node is out of reach: it died, which is no verdict on the revision
};

// Should serve, and says that it does not.
enum class Outage : uint8_t {
  kNone,
  kRecent,   // it holds a place among the unavailable
  kLasting,  // for longer than the progress deadline: then it is that node's trouble
};

// How far the node is out of the hands of the cluster's kube-proxy (kube_proxy_rollout.h).
enum class Takeover : uint8_t {
  kNone,       // it is not asked for; kube-proxy may run there beside ours
  kUnknown,    // nothing can be seen of kube-proxy
  kPending,    // its turn has not come
  kLeaving,    // out of the DaemonSet, and the Pod has not ended yet
  kOverdue,    // not by the progress deadline: that node's trouble
  kCannot,     // what runs there cannot be taken off by the API: both stand side by side
  kToClean,    // the Pod has ended, and the agent is to be told to remove what it left
  kCleaning,   // it was told
  kDone,       // none runs there, and nothing of it is left
  kToReturn,   // it is to get its kube-proxy back
  kReturning,  // back in the DaemonSet, and the Pod is not Ready yet
};

struct NodeView {
  GovernedNode governed;

  Stage stage = Stage::kNotAsked;
  Order order = Order::kSettled;
  Outage outage = Outage::kNone;
  // Its agent can act on an order: the Node is Ready, or the agent has spoken of the present
  // specification since that was written. A node that is not Ready may be so because nothing serves
  // the API server's Service address there yet.
  bool reachable = false;
  bool serving = false;    // condition Ready is True, whatever the revision
  bool untouched = false;  // nothing of ours was ever programmed there
  // Nothing runs there that a change could take away: it costs no availability.
  bool costs_nothing = false;
  bool degraded = false;  // says so, for another reason than a fallback

  kube::TimePoint available_since{};
  std::string failure;  // why this node fails the rollout; empty: it does not
  // The bound of spec.rollout.gates that it is beyond; then that is its failure.
  std::optional<kube::TrippedGate> tripped;
  std::string cannot_run;    // why it cannot run the desired mode; empty: it can, or unknown
  std::string running_mode;  // "" if none, or none that there is
  std::chrono::seconds clock_ahead{0};  // see Sighting
  Takeover takeover = Takeover::kNone;
  std::string takeover_note;    // what is in the way
  bool has_kube_proxy = false;  // a Pod of it is there, whosever
  bool cleans_up = false;       // its agent is to remove what kube-proxy left
  bool may_return = false;      // with kToReturn: its agent leaves alone what kube-proxy writes
  std::optional<kube::TimePoint> taken_over_since;
  // With provider KubeProxy (provider_rollout.h).
  bool may_start = true;      // nothing else is to be done there first
  bool must_restart = false;  // kube-proxy there, for the target
  // kube-proxy must not restart yet: the agent is still to say that it may.
  bool awaits_agent = false;
  bool kube_proxy_up = true;           // it serves, whatever it runs with
  bool last_good_restarts = false;     // the same for the last good revision
  std::optional<std::string> bind_to;  // the revision's label that it is to get; "": none

  // The next moment at which any of this changes by itself.
  std::optional<kube::TimePoint> next;

  const std::string& name() const { return governed.node->name; }
  bool at_target() const { return stage >= Stage::kOrdered; }
  bool applied() const { return stage >= Stage::kApplied; }
  bool available() const { return stage == Stage::kAvailable; }
  // To the question whether it can run the target.
  bool answered() const { return stage == Stage::kUnable || stage == Stage::kAble; }
  bool changing() const { return order == Order::kUnderWay || order == Order::kOverdue; }
  // It is a fallback where `mode` is the target's.
  bool RunsAnother(kube::Mode mode) const;
  bool down() const { return outage != Outage::kNone; }
  // kube-proxy's Pod there ends or begins right now.
  bool exchanging() const {
    return takeover == Takeover::kLeaving || takeover == Takeover::kReturning;
  }
  // There is something left to do about kube-proxy, and nothing is known to be in its way.
  bool taking_over() const {
    return exchanging() || takeover == Takeover::kToReturn || takeover == Takeover::kToClean ||
           takeover == Takeover::kCleaning ||
           (takeover == Takeover::kPending && at_target() && reachable);
  }
};

NodeView LookAt(const GovernedNode& governed, const kube::ProxyConfiguration& configuration,
                const Revision& target, Sightings& sightings, kube::TimePoint now);

// When a node is overdue that is asked for something, and was right, or was asked, at `since`.
kube::TimePoint ProgressDeadline(const kube::NodeProxy& proxy, const kube::Rollout& rollout,
                                 const Sighting& sighting, kube::TimePoint since);

// What the agent of a node is asked before a revision reaches it.
kube::NodeProxyCandidate CandidateOf(const Revision& revision);

}  // namespace pointsman::op
