// What iptables-save says of one table, condensed to what a comparison needs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/jump_order.h"

namespace pointsman::agent::xtables {

// Hash of a chain's rules, as iptables-save prints them and as we write them: the words are the
// same (tests prove it for both variants).
class RuleHash {
 public:
  void AddLine(std::string_view line) {
    value_ = (value_ ^ std::hash<std::string_view>{}(line)) * 0x9e3779b97f4a7c15ULL;
    value_ ^= value_ >> 29;
    ++rules_;
  }
  // Lines that each end with a newline.
  void AddText(std::string_view text) {
    for (size_t end = 0; (end = text.find('\n')) != std::string_view::npos;) {
      AddLine(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
  }
  uint32_t rules() const { return rules_; }
  bool operator==(const RuleHash&) const = default;

 private:
  uint64_t value_ = 0;
  uint32_t rules_ = 0;
};

struct KernelRules {
  explicit KernelRules(std::string_view prefix) : builtin(prefix) {}

  // Those whose name begins with the prefix, by name.
  std::unordered_map<std::string, RuleHash> chains;
  BuiltinChains builtin;
  // Is there a chain of the shared base rules?
  bool has_base = false;
  // Is there a rule that RouteLocalnet::IsMark?
  bool owns_route_localnet = false;
};

// Reads it line by line.
class KernelRulesReader {
 public:
  // `prefix`: of the chains that are ours; it outlives this.
  explicit KernelRulesReader(std::string_view prefix) : prefix_(prefix), found_(prefix) {}

  void AddLine(std::string_view text);
  // Once, after the last line.
  KernelRules Take() { return std::move(found_); }

 private:
  const std::string_view prefix_;
  KernelRules found_;
  // Rules come chain by chain: the last one's entry is kept at hand.
  std::string chain_;
  RuleHash* ours_ = nullptr;
};

// `prefix`: of the chains that are ours.
KernelRules ReadKernelRules(IptablesTool& tool, std::string_view table, std::string_view prefix);

}  // namespace pointsman::agent::xtables
