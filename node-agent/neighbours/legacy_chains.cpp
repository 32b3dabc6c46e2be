#include "node-agent/neighbours/legacy_chains.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"

namespace pointsman::agent {
namespace {

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

// A table as the kernel gives it: its rules one after the other, a chain of people's own headed by
// an entry of target ERROR that names it.
template <typename Types>
struct LegacyTableCopy {
  typename Types::Info info{};
  std::vector<std::max_align_t> room;

  std::string_view Bytes() const {
    const auto* entries = reinterpret_cast<const typename Types::Entries*>(room.data());
    return {reinterpret_cast<const char*>(entries->entrytable), info.size};
  }

  // nullptr: there is none at that offset.
  const typename Types::Entry* At(size_t offset) const {
    using Entry = typename Types::Entry;
    const std::string_view bytes = Bytes();
    if (offset + sizeof(Entry) > bytes.size()) return nullptr;
    const auto* entry = reinterpret_cast<const Entry*>(bytes.data() + offset);
    const bool whole = entry->target_offset >= sizeof(Entry) &&
                       entry->next_offset >= entry->target_offset + sizeof(xt_entry_target) &&
                       offset + entry->next_offset <= bytes.size();
    return whole ? entry : nullptr;
  }
};

template <typename Target, typename Entry>
const Target* TargetOf(const Entry& entry) {
  if (entry.target_offset + sizeof(Target) > entry.next_offset) return nullptr;
  return reinterpret_cast<const Target*>(reinterpret_cast<const char*>(&entry) +
                                         entry.target_offset);
}

template <typename Entry>
std::string_view ChainBegunBy(const Entry& entry) {
  const auto* target = TargetOf<xt_error_target>(entry);
  if (target == nullptr || std::string_view(target->target.u.user.name) != XT_ERROR_TARGET)
    return {};
  const std::string_view name(target->errorname,
                              strnlen(target->errorname, sizeof target->errorname));
  return name == XT_ERROR_TARGET ? std::string_view() : name;  // the table's end
}

// "" or why not.
template <typename Types>
std::string CopyLegacyTable(int fd, const std::string& table, LegacyTableCopy<Types>& copy) {
  // It may be written between the question how big it is and the one for its rules.
  constexpr int kTries = 10;
  for (int tries = 1;; ++tries) {
    copy.info = {};
    table.copy(copy.info.name, sizeof copy.info.name - 1);
    socklen_t size = sizeof copy.info;
    if (::getsockopt(fd, Types::kLevel, Types::kGetInfo, &copy.info, &size) < 0)
      return std::generic_category().message(errno);
    if (copy.info.size > kLargestLegacyTable)
      return fmt::format("it has {} bytes, and no more than {} are read", copy.info.size,
                         kLargestLegacyTable);
    const size_t bytes = sizeof(typename Types::Entries) + copy.info.size;
    copy.room.assign(bytes / sizeof(std::max_align_t) + 1, {});
    auto* entries = reinterpret_cast<typename Types::Entries*>(copy.room.data());
    table.copy(entries->name, sizeof entries->name - 1);
    entries->size = copy.info.size;
    size = static_cast<socklen_t>(bytes);
    if (::getsockopt(fd, Types::kLevel, Types::kGetEntries, entries, &size) == 0) return "";
    if (errno != EAGAIN || tries == kTries) return std::generic_category().message(errno);
  }
}

template <typename Types>
void VisitLegacyTable(int fd, const std::string& table, const LegacyChainVisitor& visitor) {
  LegacyTableCopy<Types> copy;
  if (const std::string why = CopyLegacyTable(fd, table, copy); !why.empty())
    return visitor.unread(table, why);
  for (size_t at = 0; const auto* entry = copy.At(at); at += entry->next_offset) {
    if (const std::string_view name = ChainBegunBy(*entry); !name.empty())
      visitor.chain(table, name);
  }
  if ((copy.info.valid_hooks & (1U << NF_INET_FORWARD)) == 0) return;
  const auto* policy = copy.At(copy.info.underflow[NF_INET_FORWARD]);
  if (policy == nullptr) return;
  const auto* verdict = TargetOf<xt_standard_target>(*policy);
  if (verdict != nullptr && verdict->verdict == -NF_DROP - 1) visitor.forward_policy_drop(table);
}

}  // namespace

void VisitLegacyChains(net::Family family, const LegacyChainVisitor& visitor) {
  const bool v4 = family == net::Family::kIPv4;
  std::ifstream names(fmt::format("/proc/thread-self/net/{}_tables_names", v4 ? "ip" : "ip6"));
  std::vector<std::string> tables;
  for (std::string name; std::getline(names, name);)
    tables.push_back(name);
  if (tables.empty()) return;
  const UniqueFd socket(::socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!socket) ThrowErrno("open a raw socket");
  for (const std::string& table : tables) {
    if (v4)
      VisitLegacyTable<LegacyIpv4>(socket.get(), table, visitor);
    else
      VisitLegacyTable<LegacyIpv6>(socket.get(), table, visitor);
  }
}

}  // namespace pointsman::agent
