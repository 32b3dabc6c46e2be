// kubectl pointsman status: where a rollout stands.
#pragma once

#include <chrono>
#include <string>

#include <nlohmann/json.hpp>

#include "kubectl-pointsman/rollout_view.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {

// Several lines. `nodes`: one for each node besides.
std::string StatusText(const RolloutView& view, bool nodes, const Terminal& terminal);
// In one line, for a log.
std::string StatusLine(const RolloutView& view);
nlohmann::json StatusJson(const RolloutView& view);
// "1 h 5 min", "40 s".
std::string Roughly(std::chrono::seconds time);

}  // namespace pointsman::plugin
