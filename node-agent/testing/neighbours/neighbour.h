// For tests: what CNIs, policy engines, firewalls and other proxies have in a node's iptables, in
// the structure that they give it, and what they do to it later.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {

// A rule of theirs in a builtin chain.
struct NeighbourRule {
  enum class Keeps : uint8_t {
    kFirst,  // at each sync: the first of the chain
    kLast,   // at each sync: the last
    kThere,  // at each sync: somewhere; first when it is made
  };
  std::string table;
  std::string builtin;
  std::string rule;  // without "-A CHAIN ", as iptables-save prints it
  Keeps keeps = Keeps::kThere;
};

struct Neighbour {
  std::string name;    // letters and digits
  std::string chains;  // its own, with their rules: iptables-restore's input
  std::vector<NeighbourRule> rules;

  // What its agent does from time to time, and at first. True: it had to write to a builtin chain.
  bool Sync(xtables::IptablesTool& tool) const;
};

// What a NetworkPolicy asks for in the tests: of all that is not this node itself only `allowed`
// may connect to the pod `pod`, which is on this node behind the link `link`.
struct PodPolicy {
  std::string pod;
  std::string link;
  std::string allowed;
};

}  // namespace pointsman::agent::testing
