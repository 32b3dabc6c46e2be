#include "node-agent/ipvs/chains.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include <spdlog/fmt/fmt.h>

#include "node-agent/iptables/chain_jump.h"
#include "node-agent/iptables/jump_order.h"

namespace pointsman::agent::ipvs {
namespace {

constexpr std::array kTables{"filter", "mangle", "nat"};

struct SavedTable {
  std::set<std::string> chains;
  std::vector<std::string> rules;  // "-A CHAIN …" lines of our chains, and jumps to them
  // Of the rules above, the jumps before which only such rules stand as may.
  std::set<std::string> first;
  // Builtin chain → how many rules at its top may stand before our jump.
  std::map<std::string, size_t> leading;
};

using SavedTables = std::map<std::string, SavedTable, std::less<>>;

// One process for all of kTables: a start of one takes longer than what it does.
SavedTables Read(IptablesTool& tool) {
  SavedTables tables;
  for (const char* table : kTables)
    tables[table];
  SavedTable ignored;
  SavedTable* saved = &ignored;
  std::set<std::string> blocked;
  tool.SaveLines("", [&](std::string_view line) {
    while (line.ends_with(' '))
      line.remove_suffix(1);
    if (line.starts_with('*')) {
      const auto found = tables.find(line.substr(1));
      saved = found != tables.end() ? &found->second : &ignored;
      blocked.clear();
      return;
    }
    if (line.starts_with(':')) {
      const std::string_view name = line.substr(1, line.find(' ') - 1);
      if (name.starts_with(kChainPrefix)) saved->chains.emplace(name);
      return;
    }
    if (!line.starts_with("-A ")) return;
    const bool ours =
        line.substr(3).starts_with(kChainPrefix) || ChainJumpedTo(line).starts_with(kChainPrefix);
    if (ours) saved->rules.emplace_back(line);
    if (line.starts_with("-A POINTSMAN-")) return;
    // The order of the lines is the order of the rules in their chain.
    std::string base(line.substr(3, line.find(' ', 3) - 3));
    if (blocked.contains(base)) return;
    if (!MayPrecedeOurJump(line)) {
      blocked.insert(std::move(base));
      return;
    }
    ++saved->leading[base];
    if (ours) saved->first.emplace(line);
  });
  return tables;
}

std::string RuleLine(const Chain& chain, const std::string& rule) {
  return "-A " + chain.name + " " + rule;
}

std::string JumpLine(const Chain& chain) {
  return "-A " + chain.base + " " + (chain.jump.empty() ? "" : chain.jump + " ") + "-j " +
         chain.name;
}

// What of `chain` differs in `saved`; "" when nothing.
std::string Difference(const SavedTable& saved, const Chain& chain) {
  if (!saved.chains.contains(chain.name)) return "chain is missing";
  const std::string start = "-A " + chain.name + " ";
  size_t at = 0;
  size_t jumps = 0;
  for (const std::string& line : saved.rules) {
    if (line == JumpLine(chain)) ++jumps;
    if (!line.starts_with(start)) continue;
    if (at >= chain.rules.size() || line != RuleLine(chain, chain.rules[at]))
      return "unexpected rule: " + line;
    ++at;
  }
  if (at != chain.rules.size()) return "rule is missing: " + RuleLine(chain, chain.rules[at]);
  if (chain.base.empty()) return "";
  if (jumps == 0) return "jump is missing: " + JumpLine(chain);
  if (!saved.first.contains(JumpLine(chain)))
    return "rules of others stand before the jump: " + JumpLine(chain);
  return "";
}

}  // namespace

size_t EnsureChains(IptablesTool& tool, const std::vector<Chain>& chains) {
  size_t written = 0;
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    std::string declarations;
    std::string rules;
    for (const Chain& chain : chains) {
      if (chain.table != table || Difference(saved, chain).empty()) continue;
      declarations += ":" + chain.name + " - [0:0]\n";  // makes the chain, or empties it
      for (const std::string& rule : chain.rules)
        rules += RuleLine(chain, rule) + "\n";
      written += chain.rules.size();
      if (chain.base.empty() || saved.first.contains(JumpLine(chain))) continue;
      for (const std::string& line : saved.rules) {
        if (line == JumpLine(chain)) rules += "-D" + line.substr(2) + "\n";
      }
      // Behind the jumps of iptables mode: while both are there, that one has the new connections.
      const auto leading = saved.leading.find(chain.base);
      const size_t position = 1 + (leading != saved.leading.end() ? leading->second : 0);
      rules += fmt::format("-I {} {}{}\n", chain.base, position,
                           JumpLine(chain).substr(3 + chain.base.size()));
      ++written;
    }
    if (!declarations.empty()) text += fmt::format("*{}\n{}{}COMMIT\n", table, declarations, rules);
  }
  if (!text.empty()) tool.Restore(text);
  return written;
}

void StopTaking(IptablesTool& tool) {
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    std::string jumps;
    for (const std::string& line : saved.rules) {
      const bool takes = line.starts_with("-A PREROUTING ") || line.starts_with("-A OUTPUT ");
      if (takes) jumps += "-D" + line.substr(2) + "\n";
    }
    if (!jumps.empty()) text += fmt::format("*{}\n{}COMMIT\n", table, jumps);
  }
  if (!text.empty()) tool.Restore(text);
}

std::vector<std::string> CheckChains(IptablesTool& tool, const std::vector<Chain>& chains) {
  std::vector<std::string> differences;
  for (const auto& [table, saved] : Read(tool)) {
    for (const Chain& chain : chains) {
      if (chain.table != table) continue;
      const std::string difference = Difference(saved, chain);
      if (!difference.empty())
        differences.push_back(fmt::format("{} {}: {}", table, chain.name, difference));
    }
  }
  return differences;
}

size_t RemoveChains(IptablesTool& tool) {
  size_t removed = 0;
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    if (saved.chains.empty()) continue;
    text += fmt::format("*{}\n", table);
    for (const std::string& chain : saved.chains)
      text += ":" + chain + " - [0:0]\n";
    for (const std::string& line : saved.rules) {
      if (!line.starts_with("-A " + std::string(kChainPrefix)))
        text += "-D" + line.substr(2) + "\n";
    }
    for (const std::string& chain : saved.chains)
      text += "-X " + chain + "\n";
    text += "COMMIT\n";
    removed += saved.chains.size();
  }
  if (!text.empty()) tool.Restore(text);
  return removed;
}

bool AnyChain(IptablesTool& tool) {
  const SavedTables tables = Read(tool);
  return std::any_of(tables.begin(), tables.end(),
                     [](const auto& table) { return !table.second.chains.empty(); });
}

}  // namespace pointsman::agent::ipvs
