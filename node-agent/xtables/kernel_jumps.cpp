#include "node-agent/xtables/kernel_jumps.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/netlink/nft_chain.h"

namespace pointsman::agent::xtables {
namespace {

constexpr std::string_view kOurs = "POINTSMAN-";
// By number of the hook (NF_INET_PRE_ROUTING, …).
constexpr std::array kBuiltin{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"};
static_assert(kBuiltin.size() == NF_INET_NUMHOOKS);
constexpr std::string_view kFilter = "filter";
// Bytes of a legacy table: its policies are known only when it is read whole, which takes less than
// a millisecond up to here.
constexpr uint32_t kMostForPolicies = 256 * 1024;
constexpr std::array kTables{"nat", "filter", "mangle"};

struct Ipv4Tables {
  using Info = ipt_getinfo;
  using Entries = ipt_get_entries;
  using Entry = ipt_entry;
  static constexpr int kLevel = IPPROTO_IP;
  static constexpr int kGetInfo = IPT_SO_GET_INFO;
  static constexpr int kGetEntries = IPT_SO_GET_ENTRIES;
};

struct Ipv6Tables {
  using Info = ip6t_getinfo;
  using Entries = ip6t_get_entries;
  using Entry = ip6t_entry;
  static constexpr int kLevel = IPPROTO_IPV6;
  static constexpr int kGetInfo = IP6T_SO_GET_INFO;
  static constexpr int kGetEntries = IP6T_SO_GET_ENTRIES;
};

// To ask for a table that nobody has used yet would make it.
std::set<std::string> TablesInUse(net::Family family) {
  std::ifstream names(fmt::format("/proc/thread-self/net/{}_tables_names",
                                  family == net::Family::kIPv4 ? "ip" : "ip6"));
  std::set<std::string> in_use;
  for (std::string name; std::getline(names, name);)
    in_use.insert(name);
  return in_use;
}

[[noreturn]] void ThrowUnread(int error, const std::string& table) {
  ThrowErrno(fmt::format("read iptables' table {}", table), error);
}

// The rules of a legacy table, as the kernel gives them: one after the other, a chain named by an
// entry of target ERROR before its first rule.
template <typename Entry>
class Rules {
 public:
  explicit Rules(std::string_view bytes) : bytes_(bytes) {}

  // nullptr: there is none.
  const Entry* At(size_t offset) const {
    if (offset + sizeof(Entry) > bytes_.size()) return nullptr;
    const auto* entry = reinterpret_cast<const Entry*>(bytes_.data() + offset);
    const bool whole = entry->target_offset >= sizeof(Entry) &&
                       entry->next_offset >= entry->target_offset + sizeof(xt_entry_target) &&
                       offset + entry->next_offset <= bytes_.size();
    return whole ? entry : nullptr;
  }

  bool Accepts(const Entry& rule) const {
    const auto* target = reinterpret_cast<const xt_standard_target*>(Target(rule));
    return Has(rule, sizeof *target) && target->target.u.user.name[0] == '\0' &&
           target->verdict == -NF_ACCEPT - 1;
  }
  // The chain that the rule jumps or goes to; "" for none.
  std::string_view TargetChain(const Entry& rule) const {
    const auto* target = reinterpret_cast<const xt_standard_target*>(Target(rule));
    if (!Has(rule, sizeof *target) || target->target.u.user.name[0] != '\0' || target->verdict < 0)
      return {};
    constexpr size_t kHead = sizeof(Entry) + XT_ALIGN(sizeof(xt_error_target));
    const auto first = static_cast<size_t>(target->verdict);
    // A fall-through to the next rule is written as a jump too, and has no head there.
    const Entry* head = first < kHead ? nullptr : At(first - kHead);
    if (head == nullptr || !Has(*head, sizeof(xt_error_target))) return {};
    const auto* name = reinterpret_cast<const xt_error_target*>(Target(*head));
    if (std::string_view(name->target.u.user.name) != XT_ERROR_TARGET) return {};
    return {name->errorname, strnlen(name->errorname, sizeof name->errorname)};
  }

 private:
  static const char* Target(const Entry& rule) {
    return reinterpret_cast<const char*>(&rule) + rule.target_offset;
  }
  static bool Has(const Entry& rule, size_t target_size) {
    return rule.target_offset + target_size <= rule.next_offset;
  }

  const std::string_view bytes_;
};

}  // namespace

std::set<KernelJump> KernelJumps::Read() {
  if (variant_ == XtablesVariant::kNft) return ReadNft();
  const bool v4 = family_ == net::Family::kIPv4;
  const std::set<std::string> in_use = TablesInUse(family_);
  const UniqueFd socket(::socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!socket) ThrowErrno("open a raw socket");
  std::set<KernelJump> jumps;
  for (const std::string table : kTables) {
    if (!in_use.contains(table)) {
      seen_.erase(table);
      continue;
    }
    if (v4)
      ReadLegacy<Ipv4Tables>(table, socket.get());
    else
      ReadLegacy<Ipv6Tables>(table, socket.get());
    jumps.insert(seen_[table].jumps.begin(), seen_[table].jumps.end());
  }
  return jumps;
}

std::set<KernelJump> KernelJumps::ReadNft() const {
  netlink::Socket socket(NETLINK_NETFILTER);
  std::set<KernelJump> jumps;
  for (const char* table : kTables) {
    for (const char* builtin : kBuiltin) {
      for (std::string& target : netlink::ReadNftChain(socket, family_, table, builtin).targets) {
        if (target.starts_with(kOurs)) jumps.insert({table, builtin, std::move(target)});
      }
      if (table == kFilter && netlink::NftChainAccepts(socket, family_, table, builtin))
        jumps.insert({table, builtin, std::string(KernelJump::kAcceptPolicy)});
    }
  }
  return jumps;
}

template <typename Types>
void KernelJumps::ReadLegacy(const std::string& table, int fd) {
  using Entry = typename Types::Entry;
  // It may be written between the question how big it is and the one for its rules.
  constexpr int kTries = 10;
  for (int tries = 1;; ++tries) {
    typename Types::Info info{};
    table.copy(info.name, sizeof info.name - 1);
    socklen_t size = sizeof info;
    if (::getsockopt(fd, Types::kLevel, Types::kGetInfo, &info, &size) < 0)
      ThrowUnread(errno, table);
    const auto* bytes = reinterpret_cast<const char*>(&info);
    std::vector<char> now(bytes, bytes + sizeof info);
    const bool looks_at_policies = table == kFilter && info.size <= kMostForPolicies;
    if (seen_[table].info == now && !looks_at_policies) return;

    std::vector<std::max_align_t> room(
        (sizeof(typename Types::Entries) + info.size) / sizeof(std::max_align_t) + 1);
    auto* entries = reinterpret_cast<typename Types::Entries*>(room.data());
    table.copy(entries->name, sizeof entries->name - 1);
    entries->size = info.size;
    size = static_cast<socklen_t>(sizeof *entries + info.size);
    if (::getsockopt(fd, Types::kLevel, Types::kGetEntries, entries, &size) < 0) {
      if (errno == EAGAIN && tries < kTries) continue;
      ThrowUnread(errno, table);
    }
    const Rules<Entry> rules({reinterpret_cast<const char*>(entries->entrytable), info.size});
    Seen seen{std::move(now), {}};
    for (size_t hook = 0; hook < kBuiltin.size(); ++hook) {
      if ((info.valid_hooks & (1U << hook)) == 0) continue;
      // Up to the policy.
      for (size_t at = info.hook_entry[hook]; at < info.underflow[hook];) {
        const Entry* rule = rules.At(at);
        if (rule == nullptr) break;
        const std::string_view target = rules.TargetChain(*rule);
        if (target.starts_with(kOurs))
          seen.jumps.insert({table, kBuiltin[hook], std::string(target)});
        at += rule->next_offset;
      }
      const Entry* policy = rules.At(info.underflow[hook]);
      if (table == kFilter && policy != nullptr && rules.Accepts(*policy))
        seen.jumps.insert({table, kBuiltin[hook], std::string(KernelJump::kAcceptPolicy)});
    }
    seen_[table] = std::move(seen);
    return;
  }
}

}  // namespace pointsman::agent::xtables
