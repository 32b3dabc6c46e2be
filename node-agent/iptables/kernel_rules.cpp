#include "node-agent/iptables/kernel_rules.h"

namespace pointsman::agent {

bool IsOurJump(std::string_view rule, std::string_view prefix) {
  const size_t at = rule.rfind("-j ");
  return at != std::string_view::npos && rule.substr(at + 3).starts_with(prefix);
}

KernelRules ReadKernelRules(IptablesTool& tool, std::string_view table, std::string_view prefix) {
  KernelRules found;
  std::unordered_map<std::string, std::vector<std::string>> pending;
  // Rules come chain by chain: the last one's entry is kept at hand.
  std::string chain;
  RuleHash* ours = nullptr;
  bool builtin = false;
  tool.SaveLines(table, [&](std::string_view line) {
    if (line.starts_with(':')) {
      const std::string_view name = line.substr(1, line.find(' ') - 1);
      if (name.starts_with(prefix)) found.chains.try_emplace(std::string(name));
      found.has_base = found.has_base || name == "POINTSMAN-MARK-MASQ";
      return;
    }
    if (!line.starts_with("-A ")) return;
    const std::string_view name = line.substr(3, line.find(' ', 3) - 3);
    if (name != chain) {
      chain = name;
      ours = nullptr;
      if (name.starts_with(prefix)) ours = &found.chains[chain];
      builtin = name == "PREROUTING" || name == "INPUT" || name == "FORWARD" || name == "OUTPUT" ||
                name == "POSTROUTING";
    }
    if (ours != nullptr) {
      ours->AddLine(line);
      if (line.find(kOwnsRouteLocalnet) != std::string_view::npos) found.owns_route_localnet = true;
    } else if (builtin) {
      const std::string_view rule = line.substr(std::min(4 + name.size(), line.size()));
      std::vector<std::string>& waiting = pending[chain];
      waiting.emplace_back(rule);
      if (!IsOurJump(rule, prefix)) return;
      std::vector<std::string>& rules = found.builtin[chain];
      std::move(waiting.begin(), waiting.end(), std::back_inserter(rules));
      waiting.clear();
    }
  });
  return found;
}

}  // namespace pointsman::agent
