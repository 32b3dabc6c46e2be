#include "node-agent/xtables/kernel_rules.h"

#include "node-agent/dataplane/route_localnet.h"
#include "node-agent/xtables/chain_jump.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::xtables {

bool IsOurJump(std::string_view rule, std::string_view prefix) {
  return ChainJumpedTo(rule).starts_with(prefix);
}

void KernelRulesReader::AddLine(std::string_view line) {
  const auto [kind, name, rule] = ParseSavedLine(line);
  if (kind == SavedLine::Kind::kChain) {
    if (name.starts_with(prefix_)) found_.chains.try_emplace(std::string(name));
    found_.has_base = found_.has_base || name == "POINTSMAN-MARK-MASQ";
    return;
  }
  if (kind != SavedLine::Kind::kRule) return;
  if (name != chain_) {
    chain_ = name;
    ours_ = nullptr;
    if (name.starts_with(prefix_)) ours_ = &found_.chains[chain_];
    builtin_ = name == "PREROUTING" || name == "INPUT" || name == "FORWARD" || name == "OUTPUT" ||
               name == "POSTROUTING";
  }
  if (ours_ != nullptr) {
    ours_->AddLine(line);
    found_.owns_route_localnet = found_.owns_route_localnet || RouteLocalnet::IsMark(line);
  } else if (builtin_) {
    std::vector<std::string>& waiting = pending_[chain_];
    waiting.emplace_back(rule);
    if (!IsOurJump(rule, prefix_)) return;
    std::vector<std::string>& rules = found_.builtin[chain_];
    std::move(waiting.begin(), waiting.end(), std::back_inserter(rules));
    waiting.clear();
  }
}

KernelRules ReadKernelRules(IptablesTool& tool, std::string_view table, std::string_view prefix) {
  KernelRulesReader reader(prefix);
  tool.SaveLines(table, [&](std::string_view line) { reader.AddLine(line); });
  return reader.Take();
}

}  // namespace pointsman::agent::xtables
