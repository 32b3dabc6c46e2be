#include "node-agent/ipvs/chains.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include <spdlog/fmt/fmt.h>

#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::ipvs {
namespace {

constexpr std::array kTables{"filter", "mangle", "nat"};

struct SavedTable {
  std::map<std::string, std::vector<std::string>, std::less<>> chains;  // ours, with their rules
  xtables::BuiltinChains builtin{kChainPrefix};
};

using SavedTables = std::map<std::string, SavedTable, std::less<>>;

// One process for all of kTables: a start of one takes longer than what it does.
SavedTables Read(xtables::IptablesTool& tool) {
  using Kind = xtables::SavedLine::Kind;
  SavedTables tables;
  for (const char* table : kTables)
    tables[table];
  SavedTable ignored;
  SavedTable* saved = &ignored;
  tool.SaveLines("", [&](std::string_view text) {
    const xtables::SavedLine line = xtables::ParseSavedLine(text);
    if (line.kind == Kind::kTable) {
      const auto found = tables.find(line.name);
      saved = found != tables.end() ? &found->second : &ignored;
    }
    if (saved == &ignored) return;
    if (!line.name.starts_with(kChainPrefix)) {
      saved->builtin.Add(line);
      return;
    }
    std::vector<std::string>& rules = saved->chains[std::string(line.name)];
    if (line.kind == Kind::kRule) rules.emplace_back(line.rule);
  });
  return tables;
}

// What of the chain's rules differs in `saved`; "" when nothing.
std::string Difference(const SavedTable& saved, const Chain& chain) {
  const auto found = saved.chains.find(chain.name);
  if (found == saved.chains.end()) return "chain is missing";
  const auto [is, want] = std::mismatch(found->second.begin(), found->second.end(),
                                        chain.rules.begin(), chain.rules.end());
  if (is != found->second.end()) return "unexpected rule: " + *is;
  if (want != chain.rules.end()) return "rule is missing: " + *want;
  return "";
}

// Builtin chain → its jumps to ours.
std::map<std::string, std::vector<xtables::Jump>> JumpsOf(std::string_view table,
                                                          const std::vector<Chain>& chains) {
  std::map<std::string, std::vector<xtables::Jump>> jumps;
  for (const Chain& chain : chains) {
    if (chain.table != table || chain.base.empty()) continue;
    // Behind the jumps of our other modes: while both are there, those have the new connections.
    jumps[chain.base].push_back({.rule = fmt::format("{} -j {}", chain.jump, chain.name),
                                 .place = chain.place,
                                 .yields = true});
  }
  return jumps;
}

}  // namespace

EnsuredChains EnsureChains(xtables::IptablesTool& tool, const std::vector<Chain>& chains,
                           xtables::LastKeepers& keepers) {
  EnsuredChains result;
  size_t& written = result.written;
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    if (table == "nat") result.other_mode_takes = saved.builtin.HasJumpOfOtherMode("PREROUTING");
    std::string declarations;
    std::string rules;
    for (const Chain& chain : chains) {
      if (chain.table != table || Difference(saved, chain).empty()) continue;
      declarations += ":" + chain.name + " - [0:0]\n";  // makes the chain, or empties it
      for (const std::string& rule : chain.rules)
        rules += fmt::format("-A {} {}\n", chain.name, rule);
      written += chain.rules.size();
    }
    for (const auto& [base, jumps] : JumpsOf(table, chains)) {
      if (table == "filter") saved.builtin.Teach(base, jumps, keepers);
      const xtables::JumpChanges changes = saved.builtin.Place(base, jumps, keepers);
      changes.Render(base, rules);
      written += changes.writes();
    }
    if (!declarations.empty() || !rules.empty())
      text += fmt::format("*{}\n{}{}COMMIT\n", table, declarations, rules);
  }
  if (!text.empty()) tool.Restore(text);
  return result;
}

void StopTaking(xtables::IptablesTool& tool) {
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    std::string unjumps;
    for (const auto& [base, jumps] : saved.builtin.OurJumps()) {
      if (base != "PREROUTING" && base != "OUTPUT") continue;
      for (const std::string& jump : jumps)
        unjumps += fmt::format("-D {} {}\n", base, jump);
    }
    if (!unjumps.empty()) text += fmt::format("*{}\n{}COMMIT\n", table, unjumps);
  }
  if (!text.empty()) tool.Restore(text);
}

std::vector<std::string> CheckChains(xtables::IptablesTool& tool, const std::vector<Chain>& chains,
                                     const xtables::LastKeepers& keepers) {
  std::vector<std::string> differences;
  for (const auto& [table, saved] : Read(tool)) {
    for (const Chain& chain : chains) {
      if (chain.table != table) continue;
      const std::string difference = Difference(saved, chain);
      if (!difference.empty())
        differences.push_back(fmt::format("{} {}: {}", table, chain.name, difference));
    }
    for (const auto& [base, jumps] : JumpsOf(table, chains)) {
      if (saved.builtin.Place(base, jumps, keepers).empty()) continue;
      differences.push_back(fmt::format(
          "{} {}: the jumps to our chains are not as, or not where, they have to be", table, base));
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
    for (const auto& [base, jumps] : saved.builtin.OurJumps()) {
      for (const std::string& jump : jumps)
        text += fmt::format("-D {} {}\n", base, jump);
    }
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
