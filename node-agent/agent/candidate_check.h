// The operator asks what a revision would do here before it changes any node.
#pragma once

#include <chrono>
#include <optional>

#include "kube/pointsman/node_proxy.h"
#include "node-agent/handover/back_off.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/mode_state.h"
#include "node-agent/handover/steps.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class CandidateCheck {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // All outlive this. `modes`: which mode serves here.
  CandidateCheck(ModeEnvironment& environment, Steps& steps, const ModeState& modes)
      : environment_(environment), steps_(steps), modes_(modes) {}

  // Runs the candidate's preflights, unless they have been answered. Nothing is loaded for them,
  // but with provider KubeProxy: a kube-proxy finds the modules there, or does not start. True: it
  // did run them.
  bool Check(const kube::NodeProxySpec& spec);
  const std::optional<kube::CandidateStatus>& answer() const { return answer_; }
  // When Check has something to try again; max: nothing.
  TimePoint due() const { return retry_; }

 private:
  kube::CandidateStatus Answer(const kube::NodeProxyCandidate& candidate,
                               kube::ProxySettings settings, bool& all_answered);

  ModeEnvironment& environment_;
  Steps& steps_;
  const ModeState& modes_;
  std::optional<kube::NodeProxyCandidate> asked_;
  std::optional<kube::CandidateStatus> answer_;
  TimePoint retry_ = TimePoint::max();
  BackOff back_off_;
};

}  // namespace pointsman::agent
