#include "kubectl-pointsman/preflight.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "kube/text/text.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {
namespace {

using kube::NodeProxy;

constexpr size_t kMostNamed = 20;

const char* Word(Verdict verdict) {
  switch (verdict) {
    case Verdict::kCan:
      return "can";
    case Verdict::kCannot:
      return "cannot";
    default:
      return "unknown";
  }
}

std::string Names(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i)
    text += (i == 0 ? "" : ", ") + Line(names[i]);
  if (names.size() > kMostNamed)
    text += fmt::format(" and {} more (-o wide lists all)", names.size() - kMostNamed);
  return text;
}

bool TakeAnswer(const NodeProxy& proxy, kube::Mode mode, NodeVerdict& verdict) {
  const auto& asked = proxy.spec.candidate;
  const auto& answer = proxy.status.candidate;
  if (!asked || !answer || asked->mode != mode || answer->revision != asked->revision ||
      proxy.status.observed_generation < proxy.generation)
    return false;
  verdict.verdict = answer->passed ? Verdict::kCan : Verdict::kCannot;
  verdict.message = answer->message;
  return true;
}

bool TakeReport(const NodeProxy& proxy, kube::Mode mode, NodeVerdict& verdict) {
  for (const kube::ModePreflight& preflight : proxy.status.preflights) {
    if (preflight.mode != kube::ToString(mode)) continue;
    verdict.verdict = preflight.passed ? Verdict::kCan : Verdict::kCannot;
    verdict.message = preflight.message;
    return true;
  }
  return false;
}

// By what is said: who says it.
std::map<std::string, std::vector<std::string>> ByMessage(const PreflightReport& report,
                                                          Verdict verdict) {
  std::map<std::string, std::vector<std::string>> groups;
  for (const NodeVerdict& node : report.nodes) {
    if (node.verdict == verdict) groups[node.message].push_back(node.node);
  }
  return groups;
}

// By neighbour, what it has against the mode and what it was found by.
struct Neighbour {
  std::string kind;
  std::string message;
  std::vector<std::string> nodes;
};
std::map<std::pair<std::string, std::string>, Neighbour> ByNeighbour(
    const PreflightReport& report) {
  std::map<std::pair<std::string, std::string>, Neighbour> found;
  for (const NodeVerdict& node : report.nodes) {
    for (const Objection& objection : node.objections) {
      Neighbour& neighbour = found[{objection.level, objection.neighbour}];
      neighbour.kind = objection.kind;
      neighbour.message = objection.message;
      neighbour.nodes.push_back(node.node);
    }
  }
  return found;
}

const char* RemedyForLevel(const std::string& level) {
  if (level == "Refused")
    return "; docs/neighbours.md says why, and what spec.neighbours.accept does";
  if (level == "Accepted") return "; spec.neighbours.accept has it";
  return "";
}

std::string Summary(const PreflightReport& report) {
  const size_t can = report.Count(Verdict::kCan);
  std::string text = fmt::format("{} of {} node{} could run {}", can, report.nodes.size(),
                                 report.nodes.size() == 1 ? "" : "s", kube::ToString(report.mode));
  if (const size_t unknown = report.Count(Verdict::kUnknown); unknown > 0)
    text += fmt::format("; of {} it is not known", unknown);
  return text + "\n";
}

}  // namespace

ExitCode PreflightReport::Outcome() const {
  if (Count(Verdict::kCannot) > 0) return ExitCode::kObjections;
  return Count(Verdict::kUnknown) > 0 ? ExitCode::kNotFinished : ExitCode::kOk;
}

size_t PreflightReport::Count(Verdict verdict) const {
  return static_cast<size_t>(
      std::count_if(nodes.begin(), nodes.end(),
                    [&](const NodeVerdict& node) { return node.verdict == verdict; }));
}

NodeVerdict JudgeNode(const std::string& node, const NodeProxy* proxy, kube::Mode mode) {
  NodeVerdict verdict;
  verdict.node = node;
  if (proxy == nullptr) {
    verdict.message = "no ProxyConfiguration selects it, so its agent was not asked (--ask asks)";
    return verdict;
  }
  verdict.active_mode = proxy->status.active_mode;
  if (!TakeAnswer(*proxy, mode, verdict) && !TakeReport(*proxy, mode, verdict)) {
    verdict.message = proxy->status.agent_version.empty()
                          ? "its agent has not reported yet (does its Pod run?)"
                          : "its agent (version " + proxy->status.agent_version +
                                ") does not report of modes that it was not asked for";
  }
  const std::string word(kube::ToString(mode));
  for (const kube::NeighbourStatus& neighbour : proxy->status.neighbours) {
    const auto level = neighbour.modes.find(word);
    if (level == neighbour.modes.end() || level->second == "Fine") continue;
    verdict.objections.push_back(
        {neighbour.name, neighbour.kind, level->second, neighbour.message});
  }
  return verdict;
}

PreflightReport MakePreflightReport(kube::Mode mode, const std::vector<kube::Node>& nodes,
                                    const std::vector<NodeProxy>& proxies,
                                    const std::vector<std::string>& wanted) {
  std::map<std::string, const NodeProxy*> by_node;
  for (const kube::Node& node : nodes)
    by_node[node.name] = nullptr;
  for (const NodeProxy& proxy : proxies)
    by_node[proxy.name] = &proxy;
  PreflightReport report;
  report.mode = mode;
  for (const std::string& name : wanted) {
    if (by_node.contains(name)) continue;
    throw Failure(ExitCode::kNotFound, "--nodes: there is no node " + text::Quote(name) +
                                           " (`kubectl get nodes` lists them)");
  }
  for (const auto& [name, proxy] : by_node) {
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end())
      report.nodes.push_back(JudgeNode(name, proxy, mode));
  }
  return report;
}

std::string PreflightText(const PreflightReport& report, bool each) {
  std::string text = Summary(report);
  if (each) {
    Table table({"NODE", "VERDICT", "ACTIVE", "WHAT"});
    for (const NodeVerdict& node : report.nodes)
      table.Add({node.node, Word(node.verdict), node.active_mode.empty() ? "-" : node.active_mode,
                 node.message});
    text += table.Text();
  } else {
    for (const Verdict verdict : {Verdict::kCan, Verdict::kCannot, Verdict::kUnknown}) {
      for (const auto& [message, nodes] : ByMessage(report, verdict)) {
        text += fmt::format("  {:<8} {}\n", Word(verdict), Names(nodes));
        if (!message.empty()) text += fmt::format("  {:<8} {}\n", "", Line(message));
      }
    }
  }
  const auto neighbours = ByNeighbour(report);
  if (!neighbours.empty()) text += "Neighbours\n";
  for (const auto& [key, neighbour] : neighbours) {
    const auto& [level, name] = key;
    text +=
        fmt::format("  {} ({}): {} on {}: {}{}\n", Line(name), Line(neighbour.kind), Line(level),
                    Names(neighbour.nodes), Line(neighbour.message), RemedyForLevel(level));
  }
  return text;
}

nlohmann::json PreflightJson(const PreflightReport& report) {
  using nlohmann::json;
  json nodes = json::array();
  for (const NodeVerdict& node : report.nodes) {
    json objections = json::array();
    for (const Objection& objection : node.objections) {
      objections.push_back({{"neighbour", objection.neighbour},
                            {"kind", objection.kind},
                            {"level", objection.level},
                            {"message", objection.message}});
    }
    nodes.push_back({{"name", node.node},
                     {"verdict", Word(node.verdict)},
                     {"activeMode", node.active_mode},
                     {"message", node.message},
                     {"neighbours", std::move(objections)}});
  }
  return {{"mode", kube::ToString(report.mode)},
          {"can", report.Count(Verdict::kCan)},
          {"cannot", report.Count(Verdict::kCannot)},
          {"unknown", report.Count(Verdict::kUnknown)},
          {"nodes", std::move(nodes)}};
}

}  // namespace pointsman::plugin
