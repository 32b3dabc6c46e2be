#include "node-agent/xtables/kernel_rules.h"

#include "node-agent/dataplane/route_localnet.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::xtables {

void KernelRulesReader::AddLine(std::string_view text) {
  const SavedLine line = ParseSavedLine(text);
  if (line.kind == SavedLine::Kind::kChain) {
    if (line.name.starts_with(prefix_)) found_.chains.try_emplace(std::string(line.name));
    found_.has_base = found_.has_base || line.name == "POINTSMAN-MARK-MASQ";
  } else if (line.kind == SavedLine::Kind::kRule) {
    if (line.name != chain_) {
      chain_ = line.name;
      ours_ = line.name.starts_with(prefix_) ? &found_.chains[chain_] : nullptr;
    }
    if (ours_ != nullptr) {
      ours_->AddLine(text);
      found_.owns_route_localnet = found_.owns_route_localnet || RouteLocalnet::IsMark(text);
      return;
    }
  }
  found_.builtin.Add(line);
}

KernelRules ReadKernelRules(IptablesTool& tool, std::string_view table, std::string_view prefix) {
  KernelRulesReader reader(prefix);
  tool.SaveLines(table, [&](std::string_view line) { reader.AddLine(line); });
  return reader.Take();
}

}  // namespace pointsman::agent::xtables
