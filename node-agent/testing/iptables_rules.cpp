#include "node-agent/testing/iptables_rules.h"

#include <map>
#include <set>

namespace pointsman::agent::testing {

std::string RulesOf(xtables::IptablesTool& tool) {
  std::string all;
  for (const char* table : {"nat", "filter"}) {
    std::set<std::string> chains;
    std::map<std::string, std::string> rules;
    tool.SaveLines(table, [&](std::string_view line) {
      if (line.starts_with(':')) chains.emplace(line.substr(0, line.find(' ')));
      if (!line.starts_with("-A")) return;
      std::string& of_chain = rules[std::string(line.substr(0, line.find(' ', 3)))];
      of_chain += line;
      of_chain += '\n';
    });
    all += std::string("*") + table + "\n";
    for (const std::string& chain : chains)
      all += chain + "\n";
    for (const auto& [chain, text] : rules)
      all += text;
  }
  return all;
}

}  // namespace pointsman::agent::testing
