// For tests: what CNIs, policy engines, firewalls and other proxies have in a node's kernel, in
// the structure that they give it, and what they do to it later.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {

// A rule of theirs in a builtin chain.
struct NeighbourRule {
  enum class Keeps : uint8_t {
    kFirst,       // at each sync: the first of the chain
    kLast,        // at each sync: the last
    kThere,       // at each sync: somewhere; first when it is made
    kThereAtEnd,  // the same; last when it is made
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
  // Builtin chains of table filter with policy DROP.
  std::vector<std::string> drops = {};
  std::string nft = {};                      // tables of its own: input of `nft -f`
  std::vector<std::string> nft_tables = {};  // … their names with the family: "ip cni_hostport"
  // What else it has: a command that makes it, and one that takes it away.
  struct Thing {
    std::vector<std::string> make;
    std::vector<std::string> unmake;
  };
  std::vector<Thing> things = {};

  // What its agent does with iptables from time to time, and at first. True: it had to write to a
  // builtin chain.
  bool Sync(xtables::IptablesTool& tool) const;
  // All that it has, in a kernel where it has nothing yet. Throws std::runtime_error with the
  // tool's words.
  void Put(xtables::IptablesTool& tool) const;
  // Its firewall has flushed all rules of this kernel, whosever they are, and writes its own again.
  void PutRulesAgain(xtables::IptablesTool& tool) const;
  // Leaves nothing of what it has.
  void Remove(xtables::IptablesTool& tool) const;
};

// What NetworkPolicies ask for a pod on this node.
struct PodPolicy {
  std::string pod;   // its address
  std::string link;  // on the node
  // Of all that is not this node itself only these may connect to it; nothing said: all.
  std::optional<std::vector<std::string>> ingress_from;
  // It may connect to these only; nothing said: to all.
  std::optional<std::vector<std::string>> egress_to = std::nullopt;
};

}  // namespace pointsman::agent::testing
