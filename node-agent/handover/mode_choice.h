// Which of the modes that the settings allow runs on this node: the desired one if it can, else the
// first of the fallback modes that can.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/shared_base.h"
#include "node-agent/handover/steps.h"
#include "node-agent/preflight/preflight.h"

namespace pointsman::agent {

struct ModeChoice {
  std::optional<kube::Mode> mode;  // none: no mode can run
  // Why not those before `mode`, or none; "" if it is the desired one.
  std::string fallback_reason;
  PreflightResult preflight;  // of the desired mode
  // A preflight failed, or could not be made: it may be otherwise later.
  bool preflight_again = false;
  bool preflights_made = true;  // each preflight gave a result
  // Not empty: no mode, since the shared rules could not be written. It may pass, unlike what a
  // preflight says: a problem of the sync and no verdict on the modes.
  std::vector<SyncProblem> shared_rules_problems;
};

// The sync thread's.
class ModeChooser {
 public:
  // All outlive this.
  ModeChooser(ModeEnvironment& environment, SharedBase& shared_base, Steps& steps)
      : environment_(environment), shared_base_(shared_base), steps_(steps) {}

  // Writes the shared rules for the mode that it chooses. `active`: the mode that serves.
  ModeChoice Choose(const kube::ProxySettings& settings, std::optional<kube::Mode> active);
  // Nothing serves, and `awaited` cannot yet: the first fallback mode that can; nullopt: none.
  std::optional<kube::Mode> ChooseMeanwhile(const kube::ProxySettings& settings,
                                            kube::Mode awaited);
  // `made`: false if the preflight could not be made; the result then says why.
  PreflightResult Preflight(kube::Mode mode, const kube::ProxySettings& settings, bool& made);

 private:
  ModeEnvironment& environment_;
  SharedBase& shared_base_;
  Steps& steps_;
};

}  // namespace pointsman::agent
