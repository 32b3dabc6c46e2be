// A table of iptables-legacy, asked of the kernel without a process.
#pragma once

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "kube/net/ip_address.h"

namespace pointsman::agent::xtables {

// The types and options of the two families.
struct LegacyIpv4 {
  using Info = ipt_getinfo;
  using Entries = ipt_get_entries;
  using Entry = ipt_entry;
  static constexpr int kLevel = IPPROTO_IP;
  static constexpr int kGetInfo = IPT_SO_GET_INFO;
  static constexpr int kGetEntries = IPT_SO_GET_ENTRIES;
};

struct LegacyIpv6 {
  using Info = ip6t_getinfo;
  using Entries = ip6t_get_entries;
  using Entry = ip6t_entry;
  static constexpr int kLevel = IPPROTO_IPV6;
  static constexpr int kGetInfo = IP6T_SO_GET_INFO;
  static constexpr int kGetEntries = IP6T_SO_GET_ENTRIES;
};

// Of the calling thread's network namespace: "nat", "filter" …. To ask for a table that nobody has
// used yet would make it.
std::set<std::string> LegacyTablesInUse(net::Family family);
// What the tables of that family are asked for with. Throws std::system_error.
UniqueFd LegacyTableSocket(net::Family family);
[[noreturn]] void ThrowTableUnread(int error, const std::string& table);

// A table's rules as the kernel gives them: one after the other, a chain of people's own named by
// an entry of target ERROR before its first rule. Whatever the kernel says, nothing beyond the
// bytes it gave is read.
template <typename Types>
class LegacyTable {
 public:
  using Info = typename Types::Info;
  using Entry = typename Types::Entry;

  // `room` holds a Types::Entries with info.size bytes of rules.
  LegacyTable(const Info& info, std::vector<std::max_align_t> room)
      : info_(info), room_(std::move(room)) {}

  const Info& info() const { return info_; }

  // The rule at that offset; nullptr: there is none.
  const Entry* At(size_t offset) const {
    const auto* entries = reinterpret_cast<const typename Types::Entries*>(room_.data());
    const auto* bytes = reinterpret_cast<const char*>(entries->entrytable);
    if (offset + sizeof(Entry) > info_.size) return nullptr;
    const auto* entry = reinterpret_cast<const Entry*>(bytes + offset);
    const bool whole = entry->target_offset >= sizeof(Entry) &&
                       entry->next_offset >= entry->target_offset + sizeof(xt_entry_target) &&
                       offset + entry->next_offset <= info_.size;
    return whole ? entry : nullptr;
  }

  // The chain that begins with this entry, which is none of its rules; "" for another.
  static std::string_view ChainBegunBy(const Entry& entry) {
    const auto* target = TargetOf<xt_error_target>(entry);
    if (target == nullptr || std::string_view(target->target.u.user.name) != XT_ERROR_TARGET)
      return {};
    return {target->errorname, strnlen(target->errorname, sizeof target->errorname)};
  }

  // The chain that the rule jumps or goes to; "" for none.
  std::string_view TargetChain(const Entry& rule) const {
    const xt_standard_target* target = StandardTarget(rule);
    if (target == nullptr || target->verdict < 0) return {};
    // XT_ALIGN, for which older kernel headers need typeof, which C++ does not have.
    constexpr size_t kAlign = alignof(_xt_align);
    constexpr size_t kHead =
        sizeof(Entry) + (sizeof(xt_error_target) + kAlign - 1) / kAlign * kAlign;
    const auto first = static_cast<size_t>(target->verdict);
    // A fall-through to the next rule is written as a jump too, and has no head there.
    const Entry* head = first < kHead ? nullptr : At(first - kHead);
    return head == nullptr ? std::string_view() : ChainBegunBy(*head);
  }

  // What the rule, or the policy at info().underflow, says.
  static bool Accepts(const Entry& rule) { return HasVerdict(rule, NF_ACCEPT); }
  static bool Drops(const Entry& rule) { return HasVerdict(rule, NF_DROP); }

 private:
  template <typename Target>
  static const Target* TargetOf(const Entry& rule) {
    if (rule.target_offset + sizeof(Target) > rule.next_offset) return nullptr;
    return reinterpret_cast<const Target*>(reinterpret_cast<const char*>(&rule) +
                                           rule.target_offset);
  }
  static bool HasVerdict(const Entry& rule, int verdict) {
    const xt_standard_target* target = StandardTarget(rule);
    return target != nullptr && target->verdict == -verdict - 1;
  }
  static const xt_standard_target* StandardTarget(const Entry& rule) {
    const auto* target = TargetOf<xt_standard_target>(rule);
    return target != nullptr && target->target.u.user.name[0] == '\0' ? target : nullptr;
  }

  Info info_;
  std::vector<std::max_align_t> room_;
};

// `wanted` is given the table's Info, perhaps more than once; nullopt when it says false: then the
// rules are not read. `fd`: a LegacyTableSocket. Throws std::system_error.
template <typename Types, typename Wanted>
std::optional<LegacyTable<Types>> ReadLegacyTable(int fd, const std::string& table,
                                                  const Wanted& wanted) {
  // It may be written between the question how big it is and the one for its rules.
  constexpr int kTries = 10;
  for (int tries = 1;; ++tries) {
    typename Types::Info info{};
    table.copy(info.name, sizeof info.name - 1);
    socklen_t size = sizeof info;
    if (::getsockopt(fd, Types::kLevel, Types::kGetInfo, &info, &size) < 0)
      ThrowTableUnread(errno, table);
    if (!wanted(info)) return std::nullopt;
    const size_t bytes = sizeof(typename Types::Entries) + info.size;
    std::vector<std::max_align_t> room(bytes / sizeof(std::max_align_t) + 1);
    auto* entries = reinterpret_cast<typename Types::Entries*>(room.data());
    table.copy(entries->name, sizeof entries->name - 1);
    entries->size = info.size;
    size = static_cast<socklen_t>(bytes);
    if (::getsockopt(fd, Types::kLevel, Types::kGetEntries, entries, &size) == 0)
      return LegacyTable<Types>(info, std::move(room));
    if (errno != EAGAIN || tries == kTries) ThrowTableUnread(errno, table);
  }
}

}  // namespace pointsman::agent::xtables
