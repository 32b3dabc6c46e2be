// One governed node, seen from the revision it should run.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "operator/plan/assignment.h"
#include "operator/plan/revision.h"
#include "operator/plan/sightings.h"

namespace pointsman::op {

struct NodeView {
  GovernedNode governed;

  // Its agent can act on an order: the Node is Ready, or the agent has spoken of the present
  // specification since that was written. A node that is not Ready may be so because nothing serves
  // the API server's Service address there yet.
  bool reachable = false;
  bool at_target = false;      // the spec asks for the target revision
  bool applied = false;        // and the agent runs it
  bool serving = false;        // condition Ready is True, whatever the revision
  bool available = false;      // applied and serving, for minReady
  bool in_transition = false;  // asked to change, and not there yet
  bool down = false;           // should serve, and says it does not
  bool given_up = false;       // and has for longer than the progress deadline
  bool asked = false;          // the candidate in the spec is the target
  bool answered = false;       // and the agent has said what it would do
  bool can_run = false;        // some mode of the target passed (as far as known)
  bool overdue = false;        // no answer, or not available, by the progress deadline
  bool untouched = false;      // nothing of ours was ever programmed there
  // Nothing runs there that a change could take away: it costs no availability.
  bool costs_nothing = false;
  kube::TimePoint available_since{};
  std::string failure;       // why this node fails the rollout; empty: it does not
  std::string cannot_run;    // why it cannot run the mode asked for; empty: it can, or unknown
  std::string running_mode;  // "" if none, or none that there is
  bool fallback = false;     // applied, in another mode than the one asked for
  bool degraded = false;     // says so, for another reason than a fallback
  std::chrono::seconds clock_ahead{0};  // see Sighting
  // The next moment at which any of this changes by itself.
  std::optional<kube::TimePoint> next;

  const std::string& name() const { return governed.node->name; }
};

NodeView LookAt(const GovernedNode& governed, const kube::ProxyConfiguration& configuration,
                const Revision& target, Sightings& sightings, kube::TimePoint now);

// What the agent of a node is asked before a revision reaches it.
kube::NodeProxyCandidate CandidateOf(const Revision& revision);

}  // namespace pointsman::op
