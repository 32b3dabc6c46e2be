#include "node-agent/xtables/hint_chains.h"

#include <algorithm>

#include <fmt/format.h>

#include "node-agent/xtables/chain_jump.h"

namespace pointsman::agent::xtables {
namespace {

// In the words of iptables-save.
constexpr std::string_view kHintComment = "-m comment --comment \"pointsman: made for others\"";

struct HintChain {
  std::string_view table;
  std::string_view name;
};
enum : size_t { kMarkMasq, kProxyCanary, kHint };
constexpr std::array<HintChain, 3> kHintChains{{{"nat", "KUBE-MARK-MASQ"},
                                                {"mangle", "KUBE-PROXY-CANARY"},
                                                {"mangle", HintChains::kIptablesHint}}};

}  // namespace

HintChains::HintChains(int masquerade_bit) {
  const std::string mark = fmt::format("{:#x}", 1U << static_cast<unsigned>(masquerade_bit));
  wanted_[kMarkMasq] = fmt::format("{} -j MARK --set-xmark {}/{}", kHintComment, mark, mark);
  wanted_[kProxyCanary] = kHintComment;
  wanted_[kHint] = kHintComment;
}

bool HintChains::IsHintChain(std::string_view name) {
  return std::any_of(kHintChains.begin(), kHintChains.end(),
                     [&](const HintChain& chain) { return chain.name == name; });
}

bool HintChains::SaysOurs(const SavedLine& line) {
  return line.kind == SavedLine::Kind::kRule && line.rule.starts_with(kHintComment);
}

void HintChains::AddLine(std::string_view table, const SavedLine& line) {
  const bool is_chain = line.kind == SavedLine::Kind::kChain;
  if (!is_chain && line.kind != SavedLine::Kind::kRule) return;
  // Each makes its canary in nat and filter too, which we do not.
  kube_proxy_ = kube_proxy_ || (is_chain && table == "nat" && line.name == "KUBE-PROXY-CANARY");
  kubelet_ = kubelet_ || (is_chain && line.name == "KUBE-KUBELET-CANARY");
  for (size_t i = 0; i < kChains; ++i) {
    const auto& [its_table, name] = kHintChains[i];
    if (table != its_table) continue;
    Found& found = found_[i];
    if (line.name == name) {
      found.exists = true;
      if (SaysOurs(line)) {
        found.ours.emplace_back(line.rule);
      } else if (!is_chain) {
        found.has_others = true;
      }
    } else if (!is_chain && line.rule.ends_with(name) && ChainJumpedTo(line.rule) == name) {
      found.jumped_to = true;
    }
  }
}

bool HintChains::OwnerRuns(size_t chain) const {
  return (chain == kProxyCanary && kube_proxy_) || (chain == kHint && kubelet_);
}

bool HintChains::IsTheirs(size_t chain) const {
  return OwnerRuns(chain) || found_[chain].has_others;
}

std::string HintChains::ToEnsure(std::string_view table, uint64_t& writes) const {
  std::string text;
  for (size_t i = 0; i < kChains; ++i) {
    const std::string_view name = kHintChains[i].name;
    const Found& found = found_[i];
    if (table != kHintChains[i].table) continue;
    const bool theirs = IsTheirs(i);
    // CRI-O makes it where it is missing, and empty: its packets would go on unmarked.
    const bool to_fill = i == kMarkMasq && found.exists && found.ours.empty();
    const bool wanted = !theirs && (!found.exists || to_fill || !found.ours.empty());
    if (wanted && found.ours.size() == 1 && found.ours[0] == wanted_[i]) continue;
    for (const std::string& rule : found.ours)
      text += fmt::format("-D {} {}\n", name, rule);
    writes += found.ours.size();
    if (!wanted) continue;
    // To name a chain that is there would empty it.
    if (!found.exists) text += fmt::format(":{} - [0:0]\n", name);
    text += fmt::format("-A {} {}\n", name, wanted_[i]);
    ++writes;
  }
  return text;
}

std::string HintChains::ToRemove(std::string_view table, uint64_t& writes) const {
  std::string text;
  for (size_t i = 0; i < kChains; ++i) {
    const std::string_view name = kHintChains[i].name;
    const Found& found = found_[i];
    if (table != kHintChains[i].table || found.ours.empty()) continue;
    for (const std::string& rule : found.ours)
      text += fmt::format("-D {} {}\n", name, rule);
    writes += found.ours.size();
    if (IsTheirs(i) || found.jumped_to) continue;
    text += fmt::format("-X {}\n", name);
    ++writes;
  }
  return text;
}

}  // namespace pointsman::agent::xtables
