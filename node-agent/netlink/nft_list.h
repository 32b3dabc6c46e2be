// What tables and chains nf_tables has, of all families, without what is in them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

struct NftTableName {
  uint8_t family = 0;  // NFPROTO_…
  std::string_view name;
};

struct NftChainHead {
  uint8_t family = 0;  // NFPROTO_…
  std::string_view table;
  std::string_view name;
  std::string_view type;  // of a base chain: "filter", "nat", "route"; else ""
  // Of a base chain:
  std::optional<uint32_t> hook;    // NF_INET_…, for the families that have these
  std::optional<uint32_t> policy;  // NF_ACCEPT, NF_DROP
};

// Both call `each` with one after the other, however many there are; what it is given lives no
// longer than the call. `restart`: the list begins again (Socket::Dump). `socket` is a
// NETLINK_NETFILTER socket. To ask makes the kernel load the module nf_tables if it can: ask where
// it is loaded. Throw std::system_error; a kernel without nf_tables has none.
void ForEachNftTable(Socket& socket, const std::function<void()>& restart,
                     const std::function<void(const NftTableName&)>& each);
void ForEachNftChain(Socket& socket, const std::function<void()>& restart,
                     const std::function<void(const NftChainHead&)>& each);

// "ip", "ip6", "inet", "bridge" …, as nft(8) spells NFPROTO_….
std::string_view NftFamilyName(uint8_t family);

}  // namespace pointsman::agent::netlink
