// Our table as it is in the kernel.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/objects.h"

namespace pointsman::agent::nft {

struct KernelRule {
  std::string expressions;  // NFTA_RULE_EXPRESSIONS with its header
  std::string comment;
};

struct KernelChain {
  bool base = false;
  std::string type;
  uint32_t hook = 0;
  int32_t priority = 0;
  uint32_t policy = 0;
  std::vector<KernelRule> rules;

  bool HasHookOf(const Chain& chain) const;
  bool HasRulesOf(const Chain& chain) const;  // same rules in the same order
};

struct KernelSet {
  uint32_t flags = 0;
  uint32_t key_size = 0;
  uint32_t data_type = 0;
  uint32_t data_size = 0;

  bool Is(const SetDefinition& definition) const;
};

struct KernelTable {
  bool present = false;
  uint32_t flags = 0;  // NFT_TABLE_F_…
  std::map<std::string, KernelSet, std::less<>> sets;
  std::map<std::string, KernelChain, std::less<>> chains;
};

// Everything but elements. Throws std::system_error.
KernelTable ReadTable(Connection& connection, net::Family family, std::string_view table);

// Is it there? False also when this kernel has no nf_tables.
bool HasTable(Connection& connection, net::Family family, std::string_view table);

// What ReadElements gives. The views are valid during the call.
struct KernelElement {
  std::string_view key;   // empty: the element that matches everything else
  std::string_view data;  // the value; the end of the interval; the chain that a verdict goes to
  std::string_view comment;
  bool plain = true;  // no verdict but "go to", no time-out, no flags
  // How much of its time is left; 0: it has ended, or there is none.
  std::chrono::milliseconds expires{0};
};

// Each element of a set of our table, until `each` returns false: then `connection` can read
// nothing else any more. Calls `restart` when all given so far is to be forgotten. Throws
// std::system_error.
void ReadElements(Connection& connection, net::Family family, std::string_view table,
                  std::string_view set, const std::function<void()>& restart,
                  const std::function<bool(const KernelElement&)>& each);

// The set that a rule of a table looks in, of each rule that looks in one, and the chain of the
// rule. The views are valid during the call. Calls `restart` when all given so far is to be
// forgotten. A table that is not there has none. Throws std::system_error.
struct KernelLookup {
  std::string_view chain;
  std::string_view set;  // "__map3" is one that the rule has brought with it
};
void ForEachLookup(Connection& connection, net::Family family, std::string_view table,
                   const std::function<void()>& restart,
                   const std::function<void(const KernelLookup&)>& each);

}  // namespace pointsman::agent::nft
