#include "node-agent/kube_proxy/rules.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <linux/netfilter.h>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "kube/process/kernel_module.h"
#include "node-agent/kube_proxy/names.h"
#include "node-agent/neighbours/legacy_chains.h"
#include "node-agent/netlink/nft_list.h"
#include "node-agent/xtables/chain_jump.h"
#include "node-agent/xtables/hint_chains.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::kube_proxy {
namespace {

using Kind = xtables::SavedLine::Kind;

constexpr std::string_view kTables[]{"nat", "filter", "mangle"};

bool HasLegacy(net::Family family, ChainTest is_chain) {
  bool found = false;
  VisitLegacyChains(
      family, {.chain = [&](std::string_view table,
                            std::string_view chain) { found = found || is_chain(table, chain); },
               .forward_policy_drop = [](std::string_view) {},
               .unread =
                   [&](std::string_view table, std::string_view why) {
                     throw std::runtime_error(fmt::format("table {} of iptables-legacy, {}: {}",
                                                          table, net::ToString(family), why));
                   }});
  return found;
}

// What one table has of it.
class Table {
 public:
  Table(std::string_view name, std::optional<kube::Mode> running)
      : name_(name), running_(running) {}

  void AddLine(std::string_view text) {
    const xtables::SavedLine line = xtables::ParseSavedLine(text);
    if (line.kind == Kind::kChain) {
      if (line.name == kMarkDrop) old_kubelet_ = true;
      if (Goes(line.name)) chains_.emplace(line.name);
    } else if (line.kind == Kind::kRule) {
      AddRule(line);
    }
  }

  // iptables-restore's input; "": nothing is to be done.
  std::string Removal(RemovedRules& removed) {
    const bool old_kubelet = old_kubelet_ && Goes(kPostrouting);
    if (old_kubelet) chains_.erase(std::string(kPostrouting));
    for (const std::string& chain : ours_)
      chains_.erase(chain);
    if (IsInUse(removed)) return "";
    std::string text;
    for (const std::string& chain : chains_)
      text += fmt::format(":{} - [0:0]\n", chain);  // which empties it
    std::set<std::string> kept;
    for (const auto& [chain, rule, to] : jumps_) {
      if (!chains_.contains(to)) continue;
      if (IsBuiltin(chain)) {
        text += fmt::format("-D {} {}\n", chain, rule);
        ++removed.jumps;
      } else if (!chains_.contains(chain) && kept.insert(to).second) {
        removed.kept.push_back(fmt::format(
            "chain {} in table {} stays, empty, since chain {} leads to it", to, name_, chain));
      }
    }
    if (old_kubelet) {
      for (const std::string& rule : with_sets_)
        text += fmt::format("-D {} {}\n", kPostrouting, rule);
    }
    for (const std::string& chain : chains_) {
      if (kept.contains(chain)) continue;
      text += fmt::format("-X {}\n", chain);
      ++removed.chains;
    }
    return text.empty() ? text : fmt::format("*{}\n{}COMMIT\n", name_, text);
  }

 private:
  struct JumpLine {
    std::string chain, rule, to;
  };

  bool Goes(std::string_view chain) const {
    return IsChain(name_, chain) && !(running_ && IsChainOf(*running_, name_, chain));
  }
  // It has not written its own rules yet, and would serve nobody without the others.
  bool IsInUse(RemovedRules& removed) const {
    for (const auto& [chain, rule, to] : jumps_) {
      if (!IsChain(name_, chain) || !chains_.contains(to)) continue;
      removed.in_use.push_back(
          fmt::format("chain {} in table {} leads to {} yet", chain, name_, to));
      return true;
    }
    return false;
  }
  static bool IsBuiltin(std::string_view chain) {
    return chain == "PREROUTING" || chain == "INPUT" || chain == "FORWARD" || chain == "OUTPUT" ||
           chain == "POSTROUTING";
  }
  // Most rules are those of the chains that go, of which nothing has to be remembered.
  void AddRule(const xtables::SavedLine& line) {
    if (xtables::HintChains::SaysOurs(line)) ours_.emplace(line.name);
    if (line.name == kPostrouting && line.rule.find("--match-set KUBE-") != line.rule.npos)
      with_sets_.emplace_back(line.rule);
    if (Goes(line.name)) return;
    const std::string_view to = xtables::ChainJumpedTo(line.rule);
    if (Goes(to))
      jumps_.push_back({std::string(line.name), std::string(line.rule), std::string(to)});
  }

  const std::string_view name_;
  const std::optional<kube::Mode> running_;
  std::set<std::string> chains_;
  std::set<std::string> ours_;  // made for others by Pointsman
  std::vector<JumpLine> jumps_;
  std::vector<std::string> with_sets_;
  bool old_kubelet_ = false;
};

}  // namespace

std::vector<RulesPlace> FindRules(const std::string& modules_root, ChainTest is_chain) {
  std::vector<RulesPlace> places;
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    if (HasLegacy(family, is_chain)) places.push_back({family, "legacy"});
  }
  if (kube::KernelHasModule("nf_tables", modules_root) == false) return places;
  netlink::Socket socket(NETLINK_NETFILTER);
  std::set<uint8_t> nft;
  netlink::ForEachNftChain(
      socket, [&] { nft.clear(); },
      [&](const netlink::NftChainHead& chain) {
        if (is_chain(chain.table, chain.name)) nft.insert(chain.family);
      });
  if (nft.contains(NFPROTO_IPV4)) places.push_back({net::Family::kIPv4, "nft"});
  if (nft.contains(NFPROTO_IPV6)) places.push_back({net::Family::kIPv6, "nft"});
  return places;
}

RemovedRules RemoveRules(xtables::IptablesTool& tool, std::optional<kube::Mode> running) {
  std::map<std::string_view, Table> tables;
  for (const std::string_view name : kTables) {
    tables.emplace(name, Table(name, running));
  }
  // All of them before the first is written to: what cannot be read is an error with nothing done.
  Table* table = nullptr;
  tool.SaveLines("", [&](std::string_view line) {
    const xtables::SavedLine parsed = xtables::ParseSavedLine(line);
    if (parsed.kind == Kind::kTable) {
      const auto found = tables.find(parsed.name);
      table = found == tables.end() ? nullptr : &found->second;
    } else if (table != nullptr) {
      table->AddLine(line);
    }
  });
  RemovedRules removed;
  std::string text;
  for (const std::string_view name : kTables)
    text += tables.at(name).Removal(removed);
  if (!text.empty()) tool.Restore(text);
  return removed;
}

}  // namespace pointsman::agent::kube_proxy
