// Watching a rollout until it is finished.
#pragma once

#include <chrono>
#include <ostream>
#include <stop_token>
#include <string>

#include "kubectl-pointsman/api.h"
#include "kubectl-pointsman/rollout_view.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {

// As it is now.
RolloutView FetchRollout(Api& api, const std::string& name);

struct FollowOptions {
  bool each_node = false;
  std::chrono::nanoseconds timeout{0};  // 0: none
};

// On a terminal one report, written over again and again; elsewhere a line for each change. Ends
// when the rollout does, or rests; with kNotFinished also at the timeout and when `stop` is
// requested. An API server that does not answer is asked again, for a minute.
ExitCode Follow(Api& api, const std::string& name, const FollowOptions& options, std::ostream& out,
                const std::stop_token& stop);

}  // namespace pointsman::plugin
