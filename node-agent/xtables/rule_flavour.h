// What differs between the modes that steer Service traffic with these rules.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node-agent/xtables/jump_order.h"

namespace pointsman::agent::xtables {

// A chain of a mode's own beside those that every mode has.
struct ExtraChain {
  std::string table;  // "nat" or "filter"
  std::string name;   // begins with the flavour's prefix
  std::string text;   // its rules, as iptables-save prints them, each with a newline
  // Builtin chain and jump; in front of the others of ours of the same place; they stay while
  // draining.
  std::vector<std::pair<std::string, Jump>> jumps;
};

struct RuleFlavour {
  // Of each chain's name; 14 characters at most, because the kernel's limit is 28.
  std::string_view prefix;
  // DNAT sends connections on to the backends themselves. Then off-cluster sources are masqueraded,
  // forwarded packets accepted, and 127.0.0.1 opened for node ports (route_localnet). Not so where
  // connections end at an address of this node.
  bool sends_on = true;
};

}  // namespace pointsman::agent::xtables
