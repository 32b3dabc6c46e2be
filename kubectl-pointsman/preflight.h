// kubectl pointsman preflight: which nodes could run a mode, before anything is applied.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/objects/node.h"
#include "kube/pointsman/mode.h"
#include "kube/pointsman/node_proxy.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {

enum class Verdict : uint8_t { kCan, kCannot, kUnknown };

// What a neighbour on a node has against the mode.
struct Objection {
  std::string neighbour;
  std::string kind;
  std::string level;  // Refused, Warning or Accepted
  std::string message;
};

struct NodeVerdict {
  std::string node;
  std::string active_mode;
  Verdict verdict = Verdict::kUnknown;
  std::string message;  // what is missing, what could not be served; or why it is not known
  std::vector<Objection> objections;
};

struct PreflightReport {
  kube::Mode mode = kube::Mode::kIptables;
  std::vector<NodeVerdict> nodes;  // by name

  // kOk; kObjections: a node cannot; kNotFinished: of one it is not known.
  ExitCode Outcome() const;
  size_t Count(Verdict verdict) const;
};

// As the node's agent has said of that mode: in the answer to a rollout's question, if it was asked
// for this mode, else in what it reports of every mode.
NodeVerdict JudgeNode(const std::string& node, const kube::NodeProxy* proxy, kube::Mode mode);

// `wanted`: the names to report of, empty: all. Throws Failure (kNotFound) for one that is not
// there.
PreflightReport MakePreflightReport(kube::Mode mode, const std::vector<kube::Node>& nodes,
                                    const std::vector<kube::NodeProxy>& proxies,
                                    const std::vector<std::string>& wanted);

// Nodes that have the same to say are told together; `each`: a line for each.
std::string PreflightText(const PreflightReport& report, bool each);
nlohmann::json PreflightJson(const PreflightReport& report);

}  // namespace pointsman::plugin
