#include "node-agent/xtables/base_rules.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/xtables/chain_jump.h"
#include "node-agent/xtables/hint_chains.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::xtables {
namespace {

constexpr std::string_view kMarkChain = "POINTSMAN-MARK-MASQ";
constexpr std::string_view kPostroutingChain = BaseRules::kPostroutingChain;
constexpr std::string_view kJump =
    "POSTROUTING -m comment --comment \"pointsman: masquerade\" -j POINTSMAN-POSTROUTING";

// What is in the kernel now, in the words of iptables-save.
struct Found {
  bool mark_chain = false;
  bool postrouting_chain = false;
  std::vector<std::string> mark;         // rules, without "-A "
  std::vector<std::string> postrouting;  // rules, without "-A "
  std::vector<std::string> jumps;        // from POSTROUTING, without "-A "
};

Found Read(IptablesTool& tool, HintChains& hints) {
  Found found;
  tool.SaveLines("nat", [&](std::string_view line) {
    const SavedLine parsed = ParseSavedLine(line);
    hints.AddLine("nat", parsed);
    const auto& [kind, chain, rule] = parsed;
    if (kind == SavedLine::Kind::kChain) {
      found.mark_chain = found.mark_chain || chain == kMarkChain;
      found.postrouting_chain = found.postrouting_chain || chain == kPostroutingChain;
    }
    if (kind != SavedLine::Kind::kRule) return;
    std::vector<std::string>* rules = nullptr;
    if (chain == kMarkChain)
      rules = &found.mark;
    else if (chain == kPostroutingChain)
      rules = &found.postrouting;
    else if (chain == "POSTROUTING" && ChainJumpedTo(rule) == kPostroutingChain)
      rules = &found.jumps;
    if (rules != nullptr) rules->push_back(fmt::format("{} {}", chain, rule));
  });
  return found;
}

// False: this kernel has no such table, or what is in it is not known. Then there is nothing of
// ours in it, and nothing is made: whoever waits for a chain there could not have it from
// kube-proxy. That is no problem of the sync: no Service depends on it, and on a kernel without the
// table a node would be Degraded for good.
bool ReadMangle(IptablesTool& tool, HintChains& hints) {
  try {
    tool.SaveLines("mangle",
                   [&](std::string_view line) { hints.AddLine("mangle", ParseSavedLine(line)); });
    return true;
  } catch (const std::runtime_error& error) {
    const std::string message = fmt::format("no chains for others in {} table mangle: {}",
                                            net::ToString(tool.family()), error.what());
    if (tool.IsNews(message)) spdlog::warn(message);
    return false;
  }
}

void RestoreMangle(IptablesTool& tool, const std::string& rules) {
  if (!rules.empty()) tool.Restore(fmt::format("*mangle\n{}COMMIT\n", rules));
}

void AppendRules(std::string& text, const std::vector<std::string>& rules) {
  for (const std::string& rule : rules)
    text += "-A " + rule + "\n";
}

}  // namespace

BaseRules::BaseRules(IptablesTool& tool, int masquerade_bit)
    : tool_(tool), masquerade_bit_(masquerade_bit) {
  if (masquerade_bit < 0 || masquerade_bit > 31) {
    throw std::invalid_argument(
        fmt::format("masqueradeBit: {} is not within 0..31", masquerade_bit));
  }
}

SyncResult BaseRules::Ensure() {
  const std::string mark = fmt::format("{:#x}", 1U << masquerade_bit_);
  // In the words of iptables-save, so that what is read back compares equal.
  const std::vector<std::string> mark_rules = {
      fmt::format("{} -j MARK --set-xmark {}/{}", kMarkChain, mark, mark)};
  const std::vector<std::string> postrouting_rules = {
      fmt::format("{} -m mark ! --mark {}/{} -j RETURN", kPostroutingChain, mark, mark),
      // Unmarked again before it goes on: the packet may pass this hook a second time (IPsec,
      // tunnels), where it must not be masqueraded again.
      fmt::format("{} -j MARK --set-xmark {}/0x0", kPostroutingChain, mark),
      fmt::format("{} -j MASQUERADE{}", kPostroutingChain,
                  tool_.has_random_fully() ? " --random-fully" : "")};

  HintChains hints(masquerade_bit_);
  const Found found = Read(tool_, hints);
  SyncResult result;
  std::string text = "*nat\n";
  // Chains exist before anything names them.
  auto chain = [&](std::string_view name, bool exists, const std::vector<std::string>& is,
                   const std::vector<std::string>& wanted) {
    if (exists && is == wanted) return;
    text += fmt::format(":{} - [0:0]\n", name);
    AppendRules(text, wanted);
    result.kernel_writes += wanted.size();
    if (exists) result.repaired += 1;
  };
  chain(kMarkChain, found.mark_chain, found.mark, mark_rules);
  chain(kPostroutingChain, found.postrouting_chain, found.postrouting, postrouting_rules);
  if (found.jumps.size() != 1 || found.jumps[0] != kJump) {
    for (const std::string& jump : found.jumps)
      text += "-D " + jump + "\n";
    text += fmt::format("-I {}\n", kJump);
    result.kernel_writes += 1;
    if (found.postrouting_chain) result.repaired += 1;
  }
  text += hints.ToEnsure("nat", result.kernel_writes);
  if (result.kernel_writes > 0) tool_.Restore(text + "COMMIT\n");
  if (ReadMangle(tool_, hints))
    RestoreMangle(tool_, hints.ToEnsure("mangle", result.kernel_writes));
  return result;
}

SyncResult BaseRules::Remove() {
  HintChains hints(masquerade_bit_);
  const Found found = Read(tool_, hints);
  SyncResult result;
  std::string text = "*nat\n";
  for (const std::string& jump : found.jumps)
    text += "-D " + jump + "\n";
  // Emptied first, so that they can be deleted.
  if (found.mark_chain) text += fmt::format(":{} - [0:0]\n", kMarkChain);
  if (found.postrouting_chain) text += fmt::format(":{} - [0:0]\n", kPostroutingChain);
  if (found.mark_chain) text += fmt::format("-X {}\n", kMarkChain);
  if (found.postrouting_chain) text += fmt::format("-X {}\n", kPostroutingChain);
  result.kernel_writes = found.jumps.size() + found.mark.size() + found.postrouting.size() +
                         static_cast<uint64_t>(found.mark_chain) +
                         static_cast<uint64_t>(found.postrouting_chain);
  text += hints.ToRemove("nat", result.kernel_writes);
  if (result.kernel_writes > 0) tool_.Restore(text + "COMMIT\n");
  if (ReadMangle(tool_, hints))
    RestoreMangle(tool_, hints.ToRemove("mangle", result.kernel_writes));
  return result;
}

}  // namespace pointsman::agent::xtables
