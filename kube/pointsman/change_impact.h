// NodeProxy.status.impact: what the change to its present revision did to a node's traffic, in
// figures that its agent has measured. The rollout's gates are held against them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "kube/pointsman/object_reader.h"

namespace pointsman::kube {

struct ChangeImpact {
  int64_t revision = 0;  // that the change led to
  // Each: nullopt if it was not measured.

  // New TCP connections to Services while steps of the handover were watched, of clients that were
  // answered before: in all, and those that failed. A reverted step is not among them.
  std::optional<int64_t> connections_before;
  std::optional<int64_t> failed_before;
  std::optional<int64_t> connections_after;
  std::optional<int64_t> failed_after;
  // TCP and SCTP connections that the old mode still carried when it was removed, and that ended
  // with it.
  std::optional<int64_t> cut_connections;
  // Services that are not served as specified: before, and as soon as the revision was in effect.
  std::optional<int64_t> refused_before;
  std::optional<int64_t> refused_after;
  // The median time that a change of Services or endpoints took to the kernel, in milliseconds,
  // rounded up to 1, 2 or 5 and zeros.
  std::optional<int64_t> sync_before;
  std::optional<int64_t> sync_after;
  bool operator==(const ChangeImpact&) const = default;
};

// Names in the API and members, all but the revision.
inline constexpr std::array<std::pair<const char*, std::optional<int64_t> ChangeImpact::*>, 9>
    kImpactFigures{{{"connectionsBefore", &ChangeImpact::connections_before},
                    {"failedBefore", &ChangeImpact::failed_before},
                    {"connectionsAfter", &ChangeImpact::connections_after},
                    {"failedAfter", &ChangeImpact::failed_after},
                    {"cutConnections", &ChangeImpact::cut_connections},
                    {"refusedServicesBefore", &ChangeImpact::refused_before},
                    {"refusedServicesAfter", &ChangeImpact::refused_after},
                    {"syncMillisecondsBefore", &ChangeImpact::sync_before},
                    {"syncMillisecondsAfter", &ChangeImpact::sync_after}}};

// Whether after the change over `percent` more of the new connections failed than before it. Fewer
// than kFewestFailed are what clients and endpoints do anyway, and so is what may be chance: how
// many were to be expected is told by the rule of succession, as in the agents' own comparison
// (node-agent/traffic/comparison.h), and kDeviations standard deviations are not chance, nor are a
// few endpoints that fail together.
inline constexpr double kFewestFailed = 10;
inline constexpr double kDeviations = 4;
bool FailsMore(const ChangeImpact& impact, int64_t percent);

ChangeImpact ReadImpact(ObjectReader reader);
nlohmann::json ToJson(const ChangeImpact& impact);
void KeepToSchema(ChangeImpact& impact);

}  // namespace pointsman::kube
