#include "node-agent/netlink/nft_chain.h"

#include <arpa/inet.h>
#include <cerrno>
#include <functional>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent::netlink {
namespace {

std::string_view Text(const nlattr* attribute) {
  const char* text = mnl_attr_get_str(attribute);
  return {text, strnlen(text, mnl_attr_get_payload_len(attribute))};
}

// The first attribute of that type in `nest`. nullptr: there is none, or no nest.
const nlattr* Within(const nlattr* nest, uint16_t type) {
  if (nest == nullptr) return nullptr;
  for (const nlattr* attribute : Attributes(nest)) {
    if (mnl_attr_get_type(attribute) == type) return attribute;
  }
  return nullptr;
}

// "immediate" loads a verdict: that is how a rule jumps.
void AddTarget(const nlattr* expression, std::vector<std::string>& targets) {
  const nlattr* name = Within(expression, NFTA_EXPR_NAME);
  if (name == nullptr || Text(name) != "immediate") return;
  const nlattr* data = Within(Within(expression, NFTA_EXPR_DATA), NFTA_IMMEDIATE_DATA);
  const nlattr* chain = Within(Within(data, NFTA_DATA_VERDICT), NFTA_VERDICT_CHAIN);
  if (chain != nullptr) targets.emplace_back(Text(chain));
}

nfgenmsg FamilyHeader(net::Family family) {
  return {.nfgen_family =
              static_cast<uint8_t>(family == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6),
          .version = NFNETLINK_V0,
          .res_id = 0};
}

// nfnetlink's answers for a subsystem that this kernel does not have, and for what is not there.
bool IsAbsent(int error) {
  return error == EINVAL || error == EOPNOTSUPP || error == ENOENT;
}

// Not called where there is no such chain.
void GetChain(Socket& socket, net::Family family, std::string_view table, std::string_view chain,
              const std::function<void(const nlmsghdr*)>& each) {
  Message request((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN, 0, sizeof(nfgenmsg));
  *request.header<nfgenmsg>() = FamilyHeader(family);
  request.PutString(NFTA_CHAIN_TABLE, table);
  request.PutString(NFTA_CHAIN_NAME, chain);
  const int error = socket.Get(request, each);
  if (error != 0 && !IsAbsent(error)) {
    throw std::system_error(error, std::generic_category(),
                            fmt::format("ask nf_tables for chain {} {}", table, chain));
  }
}

}  // namespace

NftChain ReadNftChain(Socket& socket, net::Family family, std::string_view table,
                      std::string_view chain) {
  Message request((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETRULE, 0, sizeof(nfgenmsg));
  *request.header<nfgenmsg>() = FamilyHeader(family);
  request.PutString(NFTA_RULE_TABLE, table);
  request.PutString(NFTA_RULE_CHAIN, chain);
  NftChain found;
  const int error = socket.Dump(
      request, [&] { found = {}; },
      [&](const nlmsghdr* answer) {
        ++found.rules;
        for (const nlattr* attribute : Attributes(answer, sizeof(nfgenmsg))) {
          if (mnl_attr_get_type(attribute) != NFTA_RULE_EXPRESSIONS) continue;
          for (const nlattr* expression : Attributes(attribute))
            AddTarget(expression, found.targets);
        }
      });
  if (IsAbsent(error)) return {};
  if (error != 0) {
    throw std::system_error(error, std::generic_category(),
                            fmt::format("list nf_tables' rules of {} {}", table, chain));
  }
  return found;
}

std::optional<uint32_t> NftChainPolicy(Socket& socket, net::Family family, std::string_view table,
                                       std::string_view chain) {
  std::optional<uint32_t> policy;
  GetChain(socket, family, table, chain, [&](const nlmsghdr* answer) {
    for (const nlattr* attribute : Attributes(answer, sizeof(nfgenmsg))) {
      if (mnl_attr_get_type(attribute) == NFTA_CHAIN_POLICY)
        policy = ntohl(mnl_attr_get_u32(attribute));
    }
  });
  return policy;
}

bool HasNftChain(Socket& socket, net::Family family, std::string_view table,
                 std::string_view chain) {
  bool found = false;
  GetChain(socket, family, table, chain, [&](const nlmsghdr*) { found = true; });
  return found;
}

}  // namespace pointsman::agent::netlink
