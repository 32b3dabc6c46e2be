// What differs between the modes that steer Service traffic with these rules.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "node-agent/iptables/chain_names.h"

namespace pointsman::agent {

// A chain of a mode's own beside those that every mode has.
struct ExtraChain {
  struct Jump {
    std::string builtin;
    std::string rule;  // without "-A CHAIN ": match, comment and "-j <chain>"
  };
  std::string table;        // "nat" or "filter"
  std::string name;         // begins with the flavour's prefix
  std::string text;         // its rules, as iptables-save prints them, each with a newline
  std::vector<Jump> jumps;  // in front of all other jumps of ours; they stay while draining
};

struct RuleFlavour {
  // Of each chain's name; as long as kChainPrefix, because the kernel's limit is 28 characters.
  std::string_view prefix = kChainPrefix;
  // DNAT sends connections on to the backends themselves. Then off-cluster sources are masqueraded,
  // forwarded packets accepted, and 127.0.0.1 opened for node ports (route_localnet). Not so where
  // connections end at an address of this node.
  bool sends_on = true;
};

}  // namespace pointsman::agent
