// Which modes could run here: looked at from time to time, so that people can be told before they
// ask for one (kubectl pointsman preflight). A rollout asks anew (candidate_check.h).
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/mode_state.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class ModePreflights {
 public:
  // How old an answer may get: modules come with the node's packages, and neighbours are nearly as
  // slow.
  static constexpr std::chrono::minutes kPeriod{10};

  // Both outlive this. `modes`: which mode serves here.
  ModePreflights(ModeEnvironment& environment, const ModeState& modes)
      : environment_(environment), modes_(modes) {}

  // Runs the preflight of every mode when that is due: nothing was looked at yet, what the answers
  // depend on is another, another mode serves, or kPeriod is over. Nothing is loaded for it.
  void Look(const kube::ProxySettings& settings);
  const std::vector<kube::ModePreflight>& answers() const { return answers_; }

 private:
  // What the answers depend on.
  struct Basis {
    std::string scheduler;
    kube::ModuleSettings modules;
    kube::NeighbourSettings neighbours;
    std::optional<kube::Mode> active;
    bool operator==(const Basis&) const = default;
  };
  kube::ModePreflight Answer(kube::Mode mode, const kube::ProxySettings& settings) const;

  ModeEnvironment& environment_;
  const ModeState& modes_;
  std::optional<Basis> basis_;
  std::chrono::steady_clock::time_point due_{};
  std::vector<kube::ModePreflight> answers_;
};

}  // namespace pointsman::agent
