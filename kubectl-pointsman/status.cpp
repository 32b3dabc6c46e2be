#include "kubectl-pointsman/status.h"

#include <algorithm>

#include <fmt/format.h>

#include "kube/text/text.h"
#include "kubectl-pointsman/gates.h"
#include "operator/plan/status.h"

namespace pointsman::plugin {
namespace {

using kube::Condition;
using kube::NodeProxy;

// Of what a node says, in the overview; `explain` and -o json have all of it.
constexpr size_t kMostOfMessage = 300;
constexpr size_t kMostInFlight = 20;

std::string Brief(const std::string& message) {
  return Line(text::Shorten(message, kMostOfMessage));
}

Color ColorOf(const RolloutView& view) {
  switch (view.Outcome()) {
    case ExitCode::kOk:
      return Color::kGreen;
    case ExitCode::kFailed:
      return Color::kRed;
    default:
      return Color::kYellow;
  }
}

std::string Phase(const RolloutView& view) {
  if (view.unobserved) return "Pending";
  return view.configuration.status.phase.empty() ? "Pending" : view.configuration.status.phase;
}

std::string Progress(const RolloutView& view) {
  if (view.unobserved)
    return "the operator has not looked at this specification yet (does its Pod run?)";
  const Condition* const accepted = view.Condition("Accepted");
  if (accepted != nullptr && accepted->status == kube::ConditionStatus::kFalse)
    return accepted->message;
  const Condition* const progressing = view.Condition("Progressing");
  return progressing == nullptr ? "" : progressing->message;
}

// What is bad news, or keeps the rollout from going on.
void AppendConditions(const RolloutView& view, const Terminal& terminal, std::string& text) {
  for (const char* type : {"Degraded", "RolledBack", "NodesWithoutAgent", "ClockSkew"}) {
    const Condition* const condition = view.Condition(type);
    if (condition == nullptr || condition->status != kube::ConditionStatus::kTrue) continue;
    const bool bad = std::string_view(type) == "Degraded" || std::string_view(type) == "RolledBack";
    text +=
        fmt::format("{}  {}: {}\n",
                    terminal.Paint(bad ? Color::kRed : Color::kYellow, fmt::format("{:<10}", type)),
                    Line(condition->reason), Line(condition->message));
  }
  const Condition* const preflight = view.Condition("PreflightPassed");
  if (preflight != nullptr && preflight->status != kube::ConditionStatus::kTrue)
    text += fmt::format("{:<10}  {}: {}\n", "Preflight", Line(preflight->reason),
                        Line(preflight->message));
  const Condition* const kube_proxy = view.Condition("KubeProxyReplaced");
  if (kube_proxy != nullptr)
    text += fmt::format("{:<10}  {}: {}\n", "kube-proxy", Line(kube_proxy->reason),
                        Line(kube_proxy->message));
  for (const Condition& condition : view.others) {
    const char* const value = condition.status == kube::ConditionStatus::kTrue    ? "True"
                              : condition.status == kube::ConditionStatus::kFalse ? "False"
                                                                                  : "Unknown";
    text += fmt::format("{:<10}  {} is {}: {}\n", "Others say", Line(condition.type), value,
                        Brief(condition.message.empty() ? condition.reason : condition.message));
  }
}

std::string Note(const NodeProxy& proxy, const RolloutView& view) {
  for (const NodeWait& wait : view.in_flight) {
    if (wait.node == proxy.name) return wait.what;
  }
  const Condition* const degraded = FindCondition(proxy.status.conditions, "Degraded");
  if (degraded != nullptr && degraded->status == kube::ConditionStatus::kTrue)
    return degraded->message;
  if (!IsOrdered(proxy, view.target)) return "not asked yet";
  return "";
}

std::string ReadyWord(const NodeProxy& proxy) {
  const Condition* const ready = FindCondition(proxy.status.conditions, "Ready");
  if (ready == nullptr) return "-";
  return ready->status == kube::ConditionStatus::kTrue ? "True" : "False";
}

std::string OrDash(const std::string& text) {
  return text.empty() ? "-" : text;
}

std::string NodeTable(const RolloutView& view) {
  Table table({"NODE", "DESIRED", "ACTIVE", "REVISION", "READY", "DRAINING", "KERNEL", "NOTE"});
  for (const NodeProxy& proxy : view.nodes) {
    const kube::NodeProxyStatus& status = proxy.status;
    const std::string draining =
        status.draining_mode.empty()
            ? "-"
            : fmt::format("{} {}", status.draining_mode, status.draining_connections);
    table.Add({proxy.name, std::string(kube::ToString(proxy.spec.settings.mode)),
               OrDash(status.active_mode),
               fmt::format("{}/{}", status.observed_revision, proxy.spec.revision),
               ReadyWord(proxy), draining, OrDash(status.kernel_release),
               text::Shorten(Note(proxy, view), kMostOfMessage)});
  }
  return table.Text();
}

}  // namespace

std::string Roughly(std::chrono::seconds time) {
  using std::chrono::minutes;
  if (time < minutes(2)) return fmt::format("{} s", time.count());
  if (time < std::chrono::hours(2)) return fmt::format("{} min", time / minutes(1));
  return fmt::format("{} h {} min", time / std::chrono::hours(1),
                     time % std::chrono::hours(1) / minutes(1));
}

std::string StatusText(const RolloutView& view, bool nodes, const Terminal& terminal) {
  const kube::ProxyConfigurationStatus& status = view.configuration.status;
  std::string text = fmt::format("ProxyConfiguration {}: mode {}, revision {}",
                                 Line(view.configuration.name), Line(view.mode), view.target);
  if (status.current_revision != view.target && status.current_revision != 0)
    text += fmt::format("; the last that was good everywhere: {}", status.current_revision);
  if (view.configuration.spec.rollout.rollback_to)
    text += fmt::format("; spec.rollout.rollbackTo is {}",
                        *view.configuration.spec.rollout.rollback_to);
  text += fmt::format("\n{:<10}  {}  {}\n", "Phase",
                      terminal.Paint(ColorOf(view), Line(Phase(view))), Line(Progress(view)));
  if (view.configuration.spec.rollout.paused && Phase(view) != op::phase::kPaused)
    text += fmt::format("{:<10}  spec.rollout.paused is set: no further node is begun\n", "Paused");
  size_t width = 0;
  for (const Wave& wave : view.waves)
    width = std::max(width, fmt::format("{}/{}", wave.done, wave.nodes).size());
  for (const Wave& wave : view.waves) {
    text += fmt::format("{:<10}  {}  {:<{}}   {}\n", wave.name,
                        terminal.Paint(wave.done == wave.nodes ? Color::kGreen : Color::kYellow,
                                       Bar(wave.done, wave.nodes)),
                        fmt::format("{}/{}", wave.done, wave.nodes), width, wave.note);
  }
  if (!view.in_flight.empty() && !nodes) {
    text += "In flight\n";
    Table table;
    for (size_t i = 0; i < std::min(view.in_flight.size(), kMostInFlight); ++i) {
      const NodeWait& wait = view.in_flight[i];
      table.Add(
          {wait.node, (wait.failed ? "failed: " : "") + text::Shorten(wait.what, kMostOfMessage)});
    }
    text += table.Text("  ");
    if (view.in_flight.size() > kMostInFlight)
      text +=
          fmt::format("  and {} more (--nodes lists all)\n", view.in_flight.size() - kMostInFlight);
  }
  if (view.eta) text += fmt::format("{:<10}  about {}\n", "ETA", Roughly(*view.eta));
  if (const std::string gates = GatesText(view); !gates.empty())
    text += fmt::format("{:<10}  {}\n", "Gates", gates);
  AppendConditions(view, terminal, text);
  for (const std::string& unreadable : view.unreadable)
    text += fmt::format("{:<10}  {}\n", "Unreadable", Brief(unreadable));
  if (nodes) text += "\n" + NodeTable(view);
  return text;
}

std::string StatusLine(const RolloutView& view) {
  const kube::NodeCounts& nodes = view.configuration.status.nodes;
  std::string text =
      fmt::format("{} {}: {} of {} nodes updated, {} ready", Line(view.configuration.name),
                  Line(Phase(view)), nodes.updated, nodes.desired, nodes.ready);
  for (size_t i = 0; i < std::min<size_t>(view.in_flight.size(), 3); ++i)
    text += fmt::format("; {} waits for: {}", Line(view.in_flight[i].node),
                        Brief(view.in_flight[i].what));
  if (view.in_flight.size() > 3) text += fmt::format("; and {} more", view.in_flight.size() - 3);
  return text;
}

nlohmann::json StatusJson(const RolloutView& view) {
  using nlohmann::json;
  const kube::ProxyConfigurationStatus& status = view.configuration.status;
  json waves = json::array();
  for (const Wave& wave : view.waves)
    waves.push_back({{"name", wave.name}, {"nodes", wave.nodes}, {"done", wave.done}});
  json tripped = json::array();
  for (const kube::TrippedGate& gate : status.tripped_gates)
    tripped.push_back(kube::ToJson(gate));
  json in_flight = json::array();
  for (const NodeWait& wait : view.in_flight)
    in_flight.push_back({{"node", wait.node}, {"waitsFor", wait.what}, {"failed", wait.failed}});
  json conditions = json::array();
  for (const Condition& condition : status.conditions)
    conditions.push_back(kube::ToJson(condition));
  json nodes = json::array();
  for (const NodeProxy& proxy : view.nodes) {
    nodes.push_back({{"name", proxy.name},
                     {"desiredMode", kube::ToString(proxy.spec.settings.mode)},
                     {"activeMode", proxy.status.active_mode},
                     {"revision", proxy.spec.revision},
                     {"observedRevision", proxy.status.observed_revision},
                     {"ready", ReadyWord(proxy) == "True"},
                     {"drainingMode", proxy.status.draining_mode},
                     {"drainingConnections", proxy.status.draining_connections},
                     {"impact", proxy.status.impact ? kube::ToJson(*proxy.status.impact) : json()},
                     {"note", Note(proxy, view)}});
  }
  json object = {{"configuration", view.configuration.name},
                 {"mode", view.mode},
                 {"phase", Phase(view)},
                 {"message", Progress(view)},
                 {"paused", view.configuration.spec.rollout.paused},
                 {"revision", view.target},
                 {"lastGoodRevision", status.current_revision},
                 {"finished", view.Outcome() == ExitCode::kOk},
                 {"failed", view.Outcome() == ExitCode::kFailed},
                 {"nodeCounts",
                  {{"desired", status.nodes.desired},
                   {"updated", status.nodes.updated},
                   {"ready", status.nodes.ready},
                   {"fallback", status.nodes.fallback},
                   {"degraded", status.nodes.degraded}}},
                 {"gates", kube::ToJson(view.configuration.spec.rollout.gates)},
                 {"trippedGates", std::move(tripped)},
                 {"waves", std::move(waves)},
                 {"inFlight", std::move(in_flight)},
                 {"nodes", std::move(nodes)},
                 {"conditions", std::move(conditions)}};
  if (view.eta) object["etaSeconds"] = view.eta->count();
  return object;
}

}  // namespace pointsman::plugin
