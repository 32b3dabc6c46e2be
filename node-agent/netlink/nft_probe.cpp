#include "node-agent/netlink/nft_probe.h"

#include <arpa/inet.h>
#include <cerrno>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <system_error>

#include "node-agent/netlink/message.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {
namespace {

constexpr std::string_view kTable = "pointsman-probe";
constexpr std::string_view kChain = "probe";

// Collects the messages of one transaction and has them checked but not done.
class DryRun {
 public:
  explicit DryRun(net::Family family)
      : protocol_(family == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6) {
    Message begin(NFNL_MSG_BATCH_BEGIN, 0, sizeof(nfgenmsg));
    begin.header<nfgenmsg>()->res_id = htons(NFNL_SUBSYS_NFTABLES);
    Append(begin);
    Add(NFT_MSG_NEWTABLE, [](Message& table) { table.PutString(NFTA_TABLE_NAME, kTable); });
  }

  template <typename Fill>
  void Add(uint8_t type, const Fill& fill) {
    Message message(static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type),
                    NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, sizeof(nfgenmsg));
    message.header<nfgenmsg>()->nfgen_family = protocol_;
    fill(message);
    Append(message);
  }

  // errno of the first message that was refused, 0 when the last one was accepted, EPROTONOSUPPORT
  // when there is no nf_tables.
  int Run() {
    std::optional<Socket> socket;
    try {
      socket.emplace(NETLINK_NETFILTER);
    } catch (const std::system_error& error) {
      if (error.code().value() == EPROTONOSUPPORT) return EPROTONOSUPPORT;
      throw;
    }
    std::optional<int> refused;
    bool accepted = false;
    // A batch that has no NFNL_MSG_BATCH_END is checked and acknowledged, then aborted
    // (net/netfilter/nfnetlink.c, nfnetlink_rcv_batch).
    socket->ExecuteWhole(messages_, sequence_ - 1, [&](const nlmsghdr* answer, int error) {
      if (error == 0) {
        accepted = accepted || answer->nlmsg_seq == sequence_;
      } else if (!refused) {
        refused = -error;
      }
    });
    if (refused && (*refused == EPERM || *refused == EACCES))
      throw std::system_error(*refused, std::generic_category(), "probe nf_tables");
    if (refused) return *refused;
    return accepted ? 0 : EPROTONOSUPPORT;
  }

 private:
  void Append(Message& message) {
    message.header<nfgenmsg>()->version = NFNETLINK_V0;
    message.raw()->nlmsg_seq = ++sequence_;
    messages_.append(reinterpret_cast<const char*>(message.raw()), message.raw()->nlmsg_len);
    messages_.resize(MNL_ALIGN(messages_.size()));
  }

  const uint8_t protocol_;
  std::string messages_;
  uint32_t sequence_ = 0;
};

}  // namespace

bool KernelHasNftNat(net::Family family) {
  DryRun run(family);
  run.Add(NFT_MSG_NEWCHAIN, [](Message& chain) {
    chain.PutString(NFTA_CHAIN_TABLE, kTable);
    chain.PutString(NFTA_CHAIN_NAME, kChain);
    chain.PutString(NFTA_CHAIN_TYPE, "nat");
    nlattr* hook = chain.BeginNested(NFTA_CHAIN_HOOK);
    chain.PutU32(NFTA_HOOK_HOOKNUM, htonl(NF_INET_POST_ROUTING));
    chain.PutU32(NFTA_HOOK_PRIORITY, htonl(100));
    chain.EndNested(hook);
  });
  return run.Run() == 0;
}

bool KernelHasNftExpression(const char* name, net::Family family) {
  DryRun run(family);
  run.Add(NFT_MSG_NEWCHAIN, [](Message& chain) {
    chain.PutString(NFTA_CHAIN_TABLE, kTable);
    chain.PutString(NFTA_CHAIN_NAME, kChain);
  });
  run.Add(NFT_MSG_NEWRULE, [name](Message& rule) {
    rule.PutString(NFTA_RULE_TABLE, kTable);
    rule.PutString(NFTA_RULE_CHAIN, kChain);
    nlattr* expressions = rule.BeginNested(NFTA_RULE_EXPRESSIONS);
    nlattr* expression = rule.BeginNested(NFTA_LIST_ELEM);
    rule.PutString(NFTA_EXPR_NAME, name);
    rule.EndNested(expression);
    rule.EndNested(expressions);
  });
  // Without its attributes a known expression is refused as invalid (EINVAL), an unknown one as not
  // there.
  const int error = run.Run();
  return error == 0 || error == EINVAL;
}

}  // namespace pointsman::agent::netlink
