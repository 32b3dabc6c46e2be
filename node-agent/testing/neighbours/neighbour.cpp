#include "node-agent/testing/neighbours/neighbour.h"

#include <algorithm>
#include <sstream>

#include <fmt/format.h>

#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::testing {
namespace {

std::vector<std::string> RulesOfChain(xtables::IptablesTool& tool, const std::string& table,
                                      const std::string& chain) {
  std::vector<std::string> rules;
  tool.SaveLines(table, [&](std::string_view text) {
    const xtables::SavedLine line = xtables::ParseSavedLine(text);
    if (line.kind == xtables::SavedLine::Kind::kRule && line.name == chain)
      rules.emplace_back(line.rule);
  });
  return rules;
}

// Of iptables-restore's input: what takes the chains that it declares away again.
std::string WithoutChains(const std::string& input) {
  std::istringstream lines(input);
  std::string flush;
  std::string removal;
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('*')) out += line + "\n";
    if (line.starts_with(':')) {
      const std::string chain = line.substr(1, line.find(' ') - 1);
      flush += fmt::format(":{} - [0:0]\n", chain);
      removal += fmt::format("-X {}\n", chain);
    }
    if (line != "COMMIT") continue;
    out += flush + removal + "COMMIT\n";
    flush.clear();
    removal.clear();
  }
  return out;
}

}  // namespace

bool Neighbour::Sync(xtables::IptablesTool& tool) const {
  using Keeps = NeighbourRule::Keeps;
  if (!chains.empty()) tool.Restore(chains);
  bool wrote = false;
  // From the last to the first: each goes in front of the one before.
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    const std::vector<std::string> there = RulesOfChain(tool, rule->table, rule->builtin);
    const auto found = std::find(there.begin(), there.end(), rule->rule);
    const bool in_place = found != there.end() &&
                          (rule->keeps == Keeps::kThere || rule->keeps == Keeps::kThereAtEnd ||
                           (rule->keeps == Keeps::kFirst && found == there.begin()) ||
                           (rule->keeps == Keeps::kLast && found + 1 == there.end()));
    if (in_place) continue;
    wrote = true;
    tool.Restore(fmt::format(
        "*{}\n{}-{} {} {}\nCOMMIT\n", rule->table,
        found != there.end() ? fmt::format("-D {} {}\n", rule->builtin, rule->rule) : "",
        rule->keeps == Keeps::kLast || rule->keeps == Keeps::kThereAtEnd ? 'A' : 'I', rule->builtin,
        rule->rule));
  }
  return wrote;
}

void Neighbour::Put(xtables::IptablesTool& tool) const {
  for (const Thing& thing : things)
    RunTool(thing.make);
  PutRulesAgain(tool);
}

void Neighbour::PutRulesAgain(xtables::IptablesTool& tool) const {
  if (!nft.empty()) RunTool({"nft", nft});
  Sync(tool);
  for (const std::string& builtin : drops)
    tool.Restore(fmt::format("*filter\n:{} DROP [0:0]\nCOMMIT\n", builtin));
}

void Neighbour::Remove(xtables::IptablesTool& tool) const {
  for (const std::string& builtin : drops)
    tool.Restore(fmt::format("*filter\n:{} ACCEPT [0:0]\nCOMMIT\n", builtin));
  for (const NeighbourRule& rule : rules)
    tool.Restore(fmt::format("*{}\n-D {} {}\nCOMMIT\n", rule.table, rule.builtin, rule.rule));
  tool.Restore(WithoutChains(chains));
  for (const std::string& table : nft_tables)
    RunTool({"nft", "delete table " + table});
  for (auto thing = things.rbegin(); thing != things.rend(); ++thing)
    RunTool(thing->unmake);
}

}  // namespace pointsman::agent::testing
