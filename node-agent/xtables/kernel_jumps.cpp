#include "node-agent/xtables/kernel_jumps.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <array>
#include <cstddef>
#include <cstdint>
#include <linux/netfilter.h>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "node-agent/netlink/nft_chain.h"
#include "node-agent/xtables/chain_names.h"
#include "node-agent/xtables/legacy_table.h"

namespace pointsman::agent::xtables {
namespace {

// By number of the hook (NF_INET_PRE_ROUTING, …).
constexpr std::array kBuiltin{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"};
static_assert(kBuiltin.size() == NF_INET_NUMHOOKS);
constexpr std::string_view kFilter = "filter";
// Bytes of a legacy table: its policies are known only when it is read whole, which takes less than
// a millisecond up to here.
constexpr uint32_t kMostForPolicies = 256 * 1024;
constexpr std::array kTables{"nat", "filter", "mangle"};

KernelJump AcceptPolicy(std::string_view builtin) {
  return {std::string(kFilter), std::string(builtin), std::string(KernelJump::kAcceptPolicy)};
}

bool IsOfFilter(size_t hook) {
  return hook == NF_INET_LOCAL_IN || hook == NF_INET_FORWARD || hook == NF_INET_LOCAL_OUT;
}

}  // namespace

std::set<KernelJump> KernelJumps::Read() {
  if (variant_ == XtablesVariant::kNft) return ReadNft();
  const bool v4 = family_ == net::Family::kIPv4;
  const std::set<std::string> in_use = LegacyTablesInUse(family_);
  const UniqueFd socket = LegacyTableSocket(family_);
  std::set<KernelJump> jumps;
  for (const std::string table : kTables) {
    if (!in_use.contains(table)) {
      seen_.erase(table);
      for (size_t hook = 0; table == kFilter && hook < kBuiltin.size(); ++hook) {
        if (IsOfFilter(hook)) jumps.insert(AcceptPolicy(kBuiltin[hook]));
      }
      continue;
    }
    if (v4)
      ReadLegacy<LegacyIpv4>(table, socket.get());
    else
      ReadLegacy<LegacyIpv6>(table, socket.get());
    jumps.insert(seen_[table].jumps.begin(), seen_[table].jumps.end());
  }
  return jumps;
}

std::set<KernelJump> KernelJumps::ReadNft() const {
  netlink::Socket socket(NETLINK_NETFILTER);
  std::set<KernelJump> jumps;
  for (const char* table : kTables) {
    for (size_t hook = 0; hook < kBuiltin.size(); ++hook) {
      const char* const builtin = kBuiltin[hook];
      for (std::string& target : netlink::ReadNftChain(socket, family_, table, builtin).targets) {
        if (target.starts_with(kOurs)) jumps.insert({table, builtin, std::move(target)});
      }
      if (table != kFilter || !IsOfFilter(hook)) continue;
      const auto policy = netlink::NftChainPolicy(socket, family_, table, builtin);
      if (policy.value_or(NF_ACCEPT) == NF_ACCEPT) jumps.insert(AcceptPolicy(builtin));
    }
  }
  return jumps;
}

template <typename Types>
void KernelJumps::ReadLegacy(const std::string& table, int fd) {
  std::vector<char> now;
  const auto changed = [&](const typename Types::Info& info) {
    const auto* bytes = reinterpret_cast<const char*>(&info);
    now.assign(bytes, bytes + sizeof info);
    const bool looks_at_policies = table == kFilter && info.size <= kMostForPolicies;
    return looks_at_policies || seen_[table].info != now;
  };
  const auto rules = ReadLegacyTable<Types>(fd, table, changed);
  if (!rules) return;
  const auto& info = rules->info();
  Seen seen{std::move(now), {}};
  for (size_t hook = 0; hook < kBuiltin.size(); ++hook) {
    if ((info.valid_hooks & (1U << hook)) == 0) continue;
    // Up to the policy.
    for (size_t at = info.hook_entry[hook]; at < info.underflow[hook];) {
      const auto* rule = rules->At(at);
      if (rule == nullptr) break;
      const std::string_view target = rules->TargetChain(*rule);
      if (target.starts_with(kOurs))
        seen.jumps.insert({table, kBuiltin[hook], std::string(target)});
      at += rule->next_offset;
    }
    const auto* policy = rules->At(info.underflow[hook]);
    if (table == kFilter && policy != nullptr && rules->Accepts(*policy))
      seen.jumps.insert(AcceptPolicy(kBuiltin[hook]));
  }
  seen_[table] = std::move(seen);
}

}  // namespace pointsman::agent::xtables
