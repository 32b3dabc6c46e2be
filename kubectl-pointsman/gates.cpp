#include "kubectl-pointsman/gates.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kube/pointsman/duration.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {
namespace {

using kube::ChangeImpact;

// In tenths of a percent, which are what is shown.
std::optional<int64_t> FailedMore(const ChangeImpact& impact) {
  const auto share = [](const std::optional<int64_t>& failed, const std::optional<int64_t>& all) {
    if (!failed || !all || *all == 0 || *failed > *all) return std::optional<double>();
    return std::optional(static_cast<double>(*failed) / static_cast<double>(*all));
  };
  const auto before = share(impact.failed_before, impact.connections_before);
  const auto after = share(impact.failed_after, impact.connections_after);
  if (!before || !after) return std::nullopt;
  return static_cast<int64_t>(std::max(0.0, *after - *before) * 1000);
}

std::optional<int64_t> RefusedMore(const ChangeImpact& impact) {
  if (!impact.refused_before || !impact.refused_after) return std::nullopt;
  return std::max<int64_t>(0, *impact.refused_after - *impact.refused_before);
}

// "cutConnections 1000 (most 3, node-1)"
void Append(const RolloutView& view, const char* gate, const std::string& bound,
            const std::function<std::optional<int64_t>(const ChangeImpact&)>& figure,
            const std::function<std::string(int64_t)>& text, std::vector<std::string>& parts) {
  std::optional<int64_t> most;
  std::string node;
  for (const kube::NodeProxy& proxy : view.nodes) {
    const auto& impact = proxy.status.impact;
    if (!impact || impact->revision != view.target || !IsOrdered(proxy, view.target)) continue;
    const auto value = figure(*impact);
    if (!value || (most && *most >= *value)) continue;
    most = value;
    node = proxy.name;
  }
  if (most)
    parts.push_back(fmt::format("{} {} (most {}, {})", gate, bound, text(*most), Line(node)));
}

template <typename T, typename Write>
std::string Bound(const std::optional<T>& bound, Write write) {
  return bound ? write(*bound) : "Unlimited";
}

}  // namespace

std::string GatesText(const RolloutView& view) {
  const kube::RolloutGates& gates = view.configuration.spec.rollout.gates;
  const auto number = [](int64_t value) { return std::to_string(value); };
  std::vector<std::string> parts;
  Append(
      view, "failedConnections",
      Bound(gates.failed_connections, [](int64_t of) { return std::to_string(of) + "%"; }),
      FailedMore, [](int64_t tenths) { return fmt::format("{}.{}%", tenths / 10, tenths % 10); },
      parts);
  Append(
      view, "syncLatency", Bound(gates.sync_latency, kube::FormatDuration),
      [](const ChangeImpact& impact) { return impact.sync_after; },
      [](int64_t milliseconds) { return fmt::format("{} ms", milliseconds); }, parts);
  Append(view, "refusedServices",
         Bound(gates.refused_services,
               [](const kube::IntOrPercent& bound) {
                 return std::to_string(bound.value) + (bound.percent ? "%" : "");
               }),
         RefusedMore, number, parts);
  Append(
      view, "cutConnections", Bound(gates.cut_connections, number),
      [](const ChangeImpact& impact) { return impact.cut_connections; }, number, parts);
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string ImpactText(const ChangeImpact& impact) {
  std::vector<std::string> parts;
  const auto before = [](const std::optional<int64_t>& figure, std::string_view unit = "") {
    return figure ? fmt::format(" (before {}{})", *figure, unit) : std::string();
  };
  if (impact.failed_after && impact.connections_after)
    parts.push_back(fmt::format(
        "{} of {} watched connections failed{}", *impact.failed_after, *impact.connections_after,
        impact.failed_before && impact.connections_before
            ? fmt::format(" (before {} of {})", *impact.failed_before, *impact.connections_before)
            : ""));
  if (impact.cut_connections)
    parts.push_back(fmt::format("{} connections were cut", *impact.cut_connections));
  if (impact.refused_after)
    parts.push_back(fmt::format("{} Services are not served as specified{}", *impact.refused_after,
                                before(impact.refused_before)));
  if (impact.sync_after)
    parts.push_back(fmt::format("a change takes {} ms to the kernel{}", *impact.sync_after,
                                before(impact.sync_before, " ms")));
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace pointsman::plugin
