// What follows from the signs on this node: which neighbours are here, and how each mode gets along
// with them. Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/neighbours/neighbour_table.h"
#include "node-agent/neighbours/signs.h"

namespace pointsman::agent {

struct Finding {
  const Neighbour* neighbour = nullptr;  // never null
  Sign sign;                             // the first that gave it away
  SignPattern pattern;                   // … and what it was looked for with
};

// In the order of the table. `neighbours` outlives the result.
std::vector<Finding> Survey(const Signs& signs, std::span<const Neighbour> neighbours);

// With these settings: a row that does not count with them is fine.
const Verdict& VerdictOf(const Finding& finding, kube::Mode mode,
                         const kube::ProxySettings& settings);
bool IsAccepted(const Finding& finding, const kube::ProxySettings& settings);

// "chain AZURE-NPM in table filter of iptables-nft, IPv4"
std::string Describe(const Finding& finding);

// What is to be said of running `mode` here.
struct NeighbourReport {
  std::vector<std::string> refusals;
  std::vector<std::string> warnings;  // also of what is refused, but accepted by name
  bool operator==(const NeighbourReport&) const = default;
};
NeighbourReport ReportOn(kube::Mode mode, const kube::ProxySettings& settings,
                         const std::vector<Finding>& findings);

// For NodeProxy.status.
struct NeighbourView {
  bool known = false;  // false: nobody has looked yet
  // Every neighbour found, with the verdict on each mode.
  std::vector<kube::NeighbourStatus> neighbours;
  // Beside which the active mode would not be begun, and why; none of those that are accepted.
  std::vector<std::string> refusals;
};
// `active`: the mode that serves, if any.
NeighbourView ViewOf(const std::vector<Finding>& findings, const kube::ProxySettings& settings,
                     std::optional<kube::Mode> active);

}  // namespace pointsman::agent
