#include "node-agent/ipvs/chains.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include <spdlog/fmt/fmt.h>

#include "node-agent/xtables/chain_jump.h"
#include "node-agent/xtables/jump_order.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::ipvs {
namespace {

constexpr std::array kTables{"filter", "mangle", "nat"};

// A rule of another chain that jumps to one of ours.
struct SavedJump {
  std::string base;
  std::string rule;    // without "-A BASE "
  bool first = false;  // only such rules stand before it as may
};

struct SavedTable {
  std::map<std::string, std::vector<std::string>, std::less<>> chains;  // ours, with their rules
  std::vector<SavedJump> jumps;
  // Builtin chain → how many rules at its top may stand before our jump.
  std::map<std::string, size_t, std::less<>> leading;
};

using SavedTables = std::map<std::string, SavedTable, std::less<>>;

// One process for all of kTables: a start of one takes longer than what it does.
SavedTables Read(xtables::IptablesTool& tool) {
  SavedTables tables;
  for (const char* table : kTables)
    tables[table];
  SavedTable ignored;
  SavedTable* saved = &ignored;
  std::set<std::string, std::less<>>
      blocked;  // builtin chains with a rule that may not stand first
  tool.SaveLines("", [&](std::string_view line) {
    const auto [kind, name, rule] = xtables::ParseSavedLine(line);
    if (kind == xtables::SavedLine::Kind::kTable) {
      const auto found = tables.find(name);
      saved = found != tables.end() ? &found->second : &ignored;
      blocked.clear();
    }
    if (kind == xtables::SavedLine::Kind::kChain && name.starts_with(kChainPrefix))
      saved->chains.try_emplace(std::string(name));
    if (kind != xtables::SavedLine::Kind::kRule) return;
    if (name.starts_with(kChainPrefix)) {
      saved->chains[std::string(name)].emplace_back(rule);
      return;
    }
    // The order of the lines is the order of the rules in their chain.
    if (!name.starts_with("POINTSMAN-") && !blocked.contains(name)) {
      if (xtables::MayPrecedeOurJump(rule))
        ++saved->leading[std::string(name)];
      else
        blocked.emplace(name);
    }
    if (xtables::ChainJumpedTo(rule).starts_with(kChainPrefix))
      saved->jumps.push_back({std::string(name), std::string(rule), !blocked.contains(name)});
  });
  return tables;
}

std::string JumpRule(const Chain& chain) {
  return (chain.jump.empty() ? "" : chain.jump + " ") + "-j " + chain.name;
}

// The jump to `chain`, nullptr: there is none. `first`: one that stands first.
const SavedJump* FindJump(const SavedTable& saved, const Chain& chain, bool first) {
  const auto found =
      std::find_if(saved.jumps.begin(), saved.jumps.end(), [&](const SavedJump& jump) {
        return jump.base == chain.base && jump.rule == JumpRule(chain) && (jump.first || !first);
      });
  return found != saved.jumps.end() ? &*found : nullptr;
}

// What of `chain` differs in `saved`; "" when nothing.
std::string Difference(const SavedTable& saved, const Chain& chain) {
  const auto found = saved.chains.find(chain.name);
  if (found == saved.chains.end()) return "chain is missing";
  const auto [is, want] = std::mismatch(found->second.begin(), found->second.end(),
                                        chain.rules.begin(), chain.rules.end());
  if (is != found->second.end()) return "unexpected rule: " + *is;
  if (want != chain.rules.end()) return "rule is missing: " + *want;
  if (chain.base.empty()) return "";
  if (FindJump(saved, chain, false) == nullptr)
    return fmt::format("jump is missing: -A {} {}", chain.base, JumpRule(chain));
  if (FindJump(saved, chain, true) == nullptr)
    return fmt::format("rules of others stand before the jump: -A {} {}", chain.base,
                       JumpRule(chain));
  return "";
}

// Appends the deletion of each of `jumps` that `which` says yes to.
template <typename Which>
void Unjump(const SavedTable& saved, std::string& text, const Which& which) {
  for (const SavedJump& jump : saved.jumps) {
    if (which(jump)) text += fmt::format("-D {} {}\n", jump.base, jump.rule);
  }
}

}  // namespace

size_t EnsureChains(xtables::IptablesTool& tool, const std::vector<Chain>& chains) {
  size_t written = 0;
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    std::string declarations;
    std::string rules;
    for (const Chain& chain : chains) {
      if (chain.table != table || Difference(saved, chain).empty()) continue;
      declarations += ":" + chain.name + " - [0:0]\n";  // makes the chain, or empties it
      for (const std::string& rule : chain.rules)
        rules += fmt::format("-A {} {}\n", chain.name, rule);
      written += chain.rules.size();
      if (chain.base.empty() || FindJump(saved, chain, true) != nullptr) continue;
      Unjump(saved, rules, [&](const SavedJump& jump) {
        return jump.base == chain.base && jump.rule == JumpRule(chain);
      });
      // Behind the jumps of iptables mode: while both are there, that one has the new connections.
      const auto leading = saved.leading.find(chain.base);
      const size_t position = 1 + (leading != saved.leading.end() ? leading->second : 0);
      rules += fmt::format("-I {} {} {}\n", chain.base, position, JumpRule(chain));
      ++written;
    }
    if (!declarations.empty()) text += fmt::format("*{}\n{}{}COMMIT\n", table, declarations, rules);
  }
  if (!text.empty()) tool.Restore(text);
  return written;
}

void StopTaking(xtables::IptablesTool& tool) {
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    std::string jumps;
    Unjump(saved, jumps, [](const SavedJump& jump) {
      return jump.base == "PREROUTING" || jump.base == "OUTPUT";
    });
    if (!jumps.empty()) text += fmt::format("*{}\n{}COMMIT\n", table, jumps);
  }
  if (!text.empty()) tool.Restore(text);
}

std::vector<std::string> CheckChains(xtables::IptablesTool& tool,
                                     const std::vector<Chain>& chains) {
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

size_t RemoveChains(xtables::IptablesTool& tool) {
  size_t removed = 0;
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    if (saved.chains.empty()) continue;
    text += fmt::format("*{}\n", table);
    for (const auto& [chain, rules] : saved.chains)
      text += ":" + chain + " - [0:0]\n";
    Unjump(saved, text, [](const SavedJump&) { return true; });
    for (const auto& [chain, rules] : saved.chains)
      text += "-X " + chain + "\n";
    text += "COMMIT\n";
    removed += saved.chains.size();
  }
  if (!text.empty()) tool.Restore(text);
  return removed;
}

bool AnyChain(xtables::IptablesTool& tool) {
  const SavedTables tables = Read(tool);
  return std::any_of(tables.begin(), tables.end(),
                     [](const auto& table) { return !table.second.chains.empty(); });
}

}  // namespace pointsman::agent::ipvs
