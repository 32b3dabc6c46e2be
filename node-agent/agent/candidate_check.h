// The operator asks what a revision would do here before it changes any node.
#pragma once

#include <chrono>
#include <optional>

#include "kube/pointsman/node_proxy.h"
#include "node-agent/handover/back_off.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/steps.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class CandidateCheck {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Both outlive this.
  CandidateCheck(ModeEnvironment& environment, Steps& steps)
      : environment_(environment), steps_(steps) {}

  // Runs the candidate's preflights, unless they have been answered. Nothing is loaded for them.
  void Check(const kube::NodeProxySpec& spec);
  const std::optional<kube::CandidateStatus>& answer() const { return answer_; }
  // When Check has something to try again; max: nothing.
  TimePoint due() const { return retry_; }

 private:
  kube::CandidateStatus Answer(const kube::NodeProxyCandidate& candidate,
                               const kube::ProxySettings& settings, bool& all_answered);

  ModeEnvironment& environment_;
  Steps& steps_;
  std::optional<kube::NodeProxyCandidate> asked_;
  std::optional<kube::CandidateStatus> answer_;
  TimePoint retry_ = TimePoint::max();
  BackOff back_off_;
};

}  // namespace pointsman::agent
