// One chain of nf_tables, as far as it says whether rules are still where they were put. Asks for
// no more than that chain, however big the table is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

struct NftChain {
  size_t rules = 0;
  std::vector<std::string> targets;  // of its rules' jumps and gotos, in order
};

// `socket` is a NETLINK_NETFILTER socket. A chain or table that is not there, and a kernel without
// nf_tables, have no rules. Throws std::system_error.
NftChain ReadNftChain(Socket& socket, net::Family family, std::string_view table,
                      std::string_view chain);

// NF_ACCEPT or NF_DROP; nullopt: there is no such chain, or it is no base chain. Throws
// std::system_error.
std::optional<uint32_t> NftChainPolicy(Socket& socket, net::Family family, std::string_view table,
                                       std::string_view chain);
// Of either kind. Throws std::system_error.
bool HasNftChain(Socket& socket, net::Family family, std::string_view table,
                 std::string_view chain);

}  // namespace pointsman::agent::netlink
