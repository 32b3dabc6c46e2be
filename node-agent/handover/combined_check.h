// Several checks of the traffic as one: each must find it as good as before.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/handover/traffic_check.h"

namespace pointsman::agent {

class CombinedCheck final : public TrafficCheck {
 public:
  // All outlive this. Asked in this order: first what has to know soonest that a step was taken.
  explicit CombinedCheck(std::vector<TrafficCheck*> checks) : checks_(std::move(checks)) {}

  bool SeenEnough(const ServiceModel& model) override;
  size_t Before(kube::Mode from, kube::Mode to, const ServiceModel& model) override;
  std::vector<std::string> AfterSwitch() override;
  std::optional<std::vector<std::string>> Verdict(const ServiceModel& model) override;
  TrafficFigures Figures() override;
  void Stop() override;

 private:
  const std::vector<TrafficCheck*> checks_;
  std::vector<TrafficCheck*> undecided_;  // since AfterSwitch
};

}  // namespace pointsman::agent
