#include "operator/plan/gates.h"

#include <algorithm>
#include <cstdint>

#include "kube/pointsman/duration.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/mode.h"

namespace pointsman::op {
namespace {

using kube::ChangeImpact;
using kube::TrippedGate;

// Without what is no count of anything.
ChangeImpact Sensible(ChangeImpact impact) {
  for (const auto& [name, member] : kube::kImpactFigures) {
    std::optional<int64_t>& figure = impact.*member;
    if (figure && (*figure < 0 || *figure > kube::limits::kMaxCount)) figure.reset();
  }
  return impact;
}

std::optional<TrippedGate> Tripped(const ChangeImpact& impact, const char* gate, std::string figure,
                                   std::string bound) {
  return TrippedGate{gate, "", impact.revision, std::move(figure), std::move(bound)};
}

std::string Of(int64_t part, int64_t all) {
  return std::to_string(part) + " of " + std::to_string(all);
}

std::optional<TrippedGate> FailedConnections(const ChangeImpact& impact, int64_t percent) {
  if (!kube::FailsMore(impact, percent)) return std::nullopt;
  return Tripped(impact, "failedConnections",
                 Of(*impact.failed_after, *impact.connections_after) +
                     " new connections failed, before the change " +
                     Of(*impact.failed_before, *impact.connections_before),
                 std::to_string(percent) + "%");
}

// A node that was as slow before is so for another reason than the change.
std::optional<TrippedGate> SyncLatency(const ChangeImpact& impact, kube::Duration bound) {
  if (!impact.sync_after) return std::nullopt;
  const int64_t most = std::chrono::floor<std::chrono::milliseconds>(bound).count();
  if (*impact.sync_after <= most) return std::nullopt;
  if (impact.sync_before && *impact.sync_before > most &&
      *impact.sync_after / 2 < *impact.sync_before)
    return std::nullopt;
  const auto text = [](int64_t milliseconds) { return std::to_string(milliseconds) + " ms"; };
  return Tripped(impact, "syncLatency",
                 "a change takes " + text(*impact.sync_after) + " to the kernel" +
                     (impact.sync_before ? ", before " + text(*impact.sync_before) : ""),
                 kube::FormatDuration(bound));
}

std::optional<TrippedGate> RefusedServices(const ChangeImpact& impact, int64_t services,
                                           const kube::IntOrPercent& bound) {
  if (!impact.refused_before || !impact.refused_after) return std::nullopt;
  const int64_t all = std::clamp<int64_t>(services, 0, kube::limits::kMaxGateCount);
  const int64_t more = bound.percent ? std::max(kube::kFewestRefused, bound.Of(all)) : bound.value;
  if (*impact.refused_after - *impact.refused_before <= more) return std::nullopt;
  return Tripped(impact, "refusedServices",
                 std::to_string(*impact.refused_after) +
                     " Services are not served as specified, before " +
                     std::to_string(*impact.refused_before),
                 std::to_string(more) + " more");
}

std::optional<TrippedGate> CutConnections(const ChangeImpact& impact, int64_t most) {
  if (!impact.cut_connections || *impact.cut_connections <= most) return std::nullopt;
  return Tripped(impact, "cutConnections",
                 std::to_string(*impact.cut_connections) +
                     " connections were cut at the end of handover.drainTimeout",
                 std::to_string(most));
}

}  // namespace

std::optional<TrippedGate> Trips(const ChangeImpact& written, int64_t services,
                                 const kube::RolloutGates& gates) {
  const ChangeImpact impact = Sensible(written);
  std::optional<TrippedGate> tripped;
  if (gates.failed_connections) tripped = FailedConnections(impact, *gates.failed_connections);
  if (!tripped && gates.sync_latency) tripped = SyncLatency(impact, *gates.sync_latency);
  if (!tripped && gates.refused_services)
    tripped = RefusedServices(impact, services, *gates.refused_services);
  if (!tripped && gates.cut_connections) tripped = CutConnections(impact, *gates.cut_connections);
  return tripped;
}

std::string Describe(const TrippedGate& tripped) {
  return "gate " + tripped.gate + ": " + tripped.figure + "; the bound is " + tripped.bound;
}

bool MayYetCut(const kube::NodeProxyStatus& status, const kube::RolloutGates& gates) {
  const bool ends = status.draining_mode == kube::ToString(kube::Mode::kIpvs) ||
                    status.draining_mode == kube::ToString(kube::Mode::kUserspace);
  return gates.cut_connections && ends && status.draining_connections > *gates.cut_connections;
}

}  // namespace pointsman::op
