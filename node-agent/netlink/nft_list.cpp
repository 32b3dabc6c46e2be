#include "node-agent/netlink/nft_list.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <system_error>

namespace pointsman::agent::netlink {
namespace {

std::string_view NftText(const nlattr* attribute) {
  const char* text = mnl_attr_get_str(attribute);
  return {text, strnlen(text, mnl_attr_get_payload_len(attribute))};
}

void ListNft(Socket& socket, int message, const char* what, const std::function<void()>& restart,
             const std::function<void(const nlmsghdr*, uint8_t family)>& each) {
  Message request(static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message), 0,
                  sizeof(nfgenmsg));
  request.header<nfgenmsg>()->nfgen_family = NFPROTO_UNSPEC;
  request.header<nfgenmsg>()->version = NFNETLINK_V0;
  const int error = socket.Dump(request, restart, [&](const nlmsghdr* answer) {
    each(answer, static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(answer))->nfgen_family);
  });
  // nfnetlink's answers for a subsystem that this kernel does not have.
  if (error == EINVAL || error == EOPNOTSUPP) return;
  if (error != 0) throw std::system_error(error, std::generic_category(), what);
}

std::optional<uint32_t> HookOf(const nlattr* nest) {
  for (const nlattr* attribute : Attributes(nest)) {
    if (mnl_attr_get_type(attribute) == NFTA_HOOK_HOOKNUM)
      return ntohl(mnl_attr_get_u32(attribute));
  }
  return std::nullopt;
}

}  // namespace

void ForEachNftTable(Socket& socket, const std::function<void()>& restart,
                     const std::function<void(const NftTableName&)>& each) {
  ListNft(socket, NFT_MSG_GETTABLE, "list nf_tables' tables", restart,
          [&](const nlmsghdr* answer, uint8_t family) {
            for (const nlattr* attribute : Attributes(answer, sizeof(nfgenmsg))) {
              if (mnl_attr_get_type(attribute) == NFTA_TABLE_NAME)
                each({family, NftText(attribute)});
            }
          });
}

void ForEachNftChain(Socket& socket, const std::function<void()>& restart,
                     const std::function<void(const NftChainHead&)>& each) {
  ListNft(socket, NFT_MSG_GETCHAIN, "list nf_tables' chains", restart,
          [&](const nlmsghdr* answer, uint8_t family) {
            NftChainHead chain{.family = family};
            for (const nlattr* attribute : Attributes(answer, sizeof(nfgenmsg))) {
              switch (mnl_attr_get_type(attribute)) {
                case NFTA_CHAIN_TABLE:
                  chain.table = NftText(attribute);
                  break;
                case NFTA_CHAIN_NAME:
                  chain.name = NftText(attribute);
                  break;
                case NFTA_CHAIN_TYPE:
                  chain.type = NftText(attribute);
                  break;
                case NFTA_CHAIN_HOOK:
                  chain.hook = HookOf(attribute);
                  break;
                case NFTA_CHAIN_POLICY:
                  chain.policy = ntohl(mnl_attr_get_u32(attribute));
                  break;
                default:
                  break;
              }
            }
            each(chain);
          });
}

std::string_view NftFamilyName(uint8_t family) {
  switch (family) {
    case NFPROTO_INET:
      return "inet";
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_IPV6:
      return "ip6";
    case NFPROTO_ARP:
      return "arp";
    case NFPROTO_BRIDGE:
      return "bridge";
    case NFPROTO_NETDEV:
      return "netdev";
    default:
      return "other";
  }
}

}  // namespace pointsman::agent::netlink
