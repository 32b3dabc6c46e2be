#include "node-agent/testing/neighbours/neighbour.h"

#include <algorithm>

#include <fmt/format.h>

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

}  // namespace

bool Neighbour::Sync(xtables::IptablesTool& tool) const {
  using Keeps = NeighbourRule::Keeps;
  if (!chains.empty()) tool.Restore(chains);
  bool wrote = false;
  // From the last to the first: each goes in front of the one before.
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    const std::vector<std::string> there = RulesOfChain(tool, rule->table, rule->builtin);
    const auto found = std::find(there.begin(), there.end(), rule->rule);
    const bool in_place =
        found != there.end() &&
        (rule->keeps == Keeps::kThere || (rule->keeps == Keeps::kFirst && found == there.begin()) ||
         (rule->keeps == Keeps::kLast && found + 1 == there.end()));
    if (in_place) continue;
    wrote = true;
    tool.Restore(fmt::format(
        "*{}\n{}-{} {} {}\nCOMMIT\n", rule->table,
        found != there.end() ? fmt::format("-D {} {}\n", rule->builtin, rule->rule) : "",
        rule->keeps == Keeps::kLast ? 'A' : 'I', rule->builtin, rule->rule));
  }
  return wrote;
}

}  // namespace pointsman::agent::testing
