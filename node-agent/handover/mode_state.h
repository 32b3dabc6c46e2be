// What runs on this node and what does not, as status and metrics report it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kube/pointsman/mode.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/traffic_check.h"
#include "node-agent/preflight/preflight.h"

namespace pointsman::agent {

// Of modes that drained, when that was over: connections that had ended by then, and that were
// left.
struct DrainedConnections {
  uint64_t ended = 0;
  uint64_t left = 0;
  uint64_t cut = 0;  // of those that were left: TCP and SCTP connections that ended with the mode
};

// What handovers did to the traffic, since the start. Grows only.
struct HandoverToll {
  TrafficFigures traffic;        // of the steps that stay
  uint64_t cut_connections = 0;  // that ended with the mode that was removed
};

// A snapshot for status and metrics.
struct ModeState {
  std::optional<kube::Mode> desired;
  std::optional<kube::Mode> active;
  std::optional<kube::Mode> draining;
  uint64_t draining_connections = 0;
  DrainedConnections drained;  // since the start
  // How often new connections went from one mode to another, since the start; the way back counts
  // too.
  std::map<std::pair<kube::Mode, kube::Mode>, uint64_t> handovers;
  // Of the desired mode.
  std::optional<PreflightResult> preflight;
  // Why the active mode is not the desired one, "" if it is; for a person.
  std::string fallback_reason;
  // The handover to the desired mode was reverted; what failed.
  std::string reverted_reason;
  // Clients' traffic is watched before or after a step of a handover: which. "" else. The settings
  // are not known to stay in effect yet.
  std::string watching;
  uint64_t reverts = 0;  // handovers, since the start
  HandoverToll toll;
  // The handover to a mode waits until others on the node are ready for it: for what. "" else.
  std::string waits_for;
  // The active mode serves, though others are not ready for it: what they have not done. "" else.
  std::string not_ready;
  // No mode could be programmed or the last sync left something out.
  std::vector<SyncProblem> problems;
  // `problems` leave no family served as it is to be: the sync as a whole did not go through.
  // False: nothing did, or one family's did not and the other is served.
  bool failed = false;
  // The settings are not in effect yet, since a step failed and is tried again; "" else.
  std::string unfinished;
  // Of the active mode, with what it was refused for single Services; sorted.
  std::vector<ServiceWarning> warnings;
  size_t refused_entries = 0;  // Service ports of which something was refused
  uint64_t full_syncs = 0;
  uint64_t syncs = 0;
  uint64_t repaired = 0;
  // SyncResult::rules of the active mode's last full sync.
  std::map<std::string, uint64_t> rules;
  bool synced_once = false;  // the active mode has been written whole at least once
};

}  // namespace pointsman::agent
