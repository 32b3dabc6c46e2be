// What the neighbours on a node have to do with whether a mode can run there.
#pragma once

#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "node-agent/neighbours/survey.h"
#include "node-agent/preflight/preflight.h"

namespace pointsman::agent {

inline constexpr const char* kNeighbourRefused = "NeighbourRefused";

// Adds it to the result of that mode's preflight: a refusal fails it, with reason NeighbourRefused
// where nothing else is missing. `unread`: what could not be looked at.
void AddNeighbours(const NeighbourReport& report, const std::vector<std::string>& unread,
                   kube::Mode mode, PreflightResult& result);

// For the mode that serves on this node: a neighbour alone is no reason to take it away from the
// connections that it has, so then the result is passed, with the refusal as a warning.
void PassWhatRuns(kube::Mode mode, PreflightResult& result);

}  // namespace pointsman::agent
