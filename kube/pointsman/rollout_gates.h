// spec.rollout.gates: how much harm a rollout may do to the traffic before it stops.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include <nlohmann/json.hpp>

#include "kube/pointsman/int_or_percent.h"
#include "kube/pointsman/object_reader.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::kube {

// Each is a bound on one node's figures (ChangeImpact); nullopt: "Unlimited". docs/gates.md has the
// reasons of the defaults.
struct RolloutGates {
  // Percent of the new connections in a handover that fail, over those that failed before it.
  std::optional<int64_t> failed_connections = 5;
  // What a change typically takes to the kernel.
  std::optional<Duration> sync_latency = std::chrono::seconds(10);
  // Services that are not served as specified, more than before. A percentage is of the node's
  // Services, and at least kFewestRefused: what a few of them ask for is their owners' doing, who
  // are not to stop a rollout by it.
  std::optional<IntOrPercent> refused_services = IntOrPercent{5, true};
  // Connections that were cut when the old mode's time to drain was over.
  std::optional<int64_t> cut_connections = 1000;
  bool operator==(const RolloutGates&) const = default;
};

inline constexpr int64_t kFewestRefused = 10;

RolloutGates ReadGates(ObjectReader reader);
nlohmann::json ToJson(const RolloutGates& gates);

}  // namespace pointsman::kube
