#include "node-agent/kube_proxy/hook_hold.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <array>
#include <cerrno>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>

#include <spdlog/spdlog.h>

#include "kube/process/kernel_module.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/nf_tables/transaction.h"

namespace pointsman::agent::kube_proxy {
namespace {

constexpr std::array kFamilies{net::Family::kIPv4, net::Family::kIPv6};

struct HeldHook {
  const char* chain;
  nft::Hook hook;
};
// Priorities of NF_IP_PRI_NAT_DST and _SRC.
const std::array<HeldHook, 4> kHooks{{{"prerouting", {"nat", NF_INET_PRE_ROUTING, -100}},
                                      {"output", {"nat", NF_INET_LOCAL_OUT, -100}},
                                      {"input", {"nat", NF_INET_LOCAL_IN, 100}},
                                      {"postrouting", {"nat", NF_INET_POST_ROUTING, 100}}}};

}  // namespace

void HoldHooks(const std::string& modules_root) {
  if (kube::KernelHasModule("nf_tables", modules_root) == false) return;
  nft::Connection connection;
  for (const net::Family family : kFamilies) {
    if (nft::HasTable(connection, family, kHoldTable)) continue;
    nft::Transaction transaction(family, kHoldTable);
    transaction.AddTable();
    for (const HeldHook& held : kHooks)
      transaction.AddChain({.name = held.chain, .hook = held.hook, .rules = {}});
    // A chain at a hook of NAT's holds NAT; a rule that asks for the state holds the tracking.
    transaction.AppendRule("prerouting", nft::RuleBuilder(family)
                                             .CtState(NF_CT_STATE_BIT(IP_CT_NEW))
                                             .Build("while a kube-proxy changes its mode"));
    for (const nft::Refusal& refused : connection.Commit(transaction)) {
      spdlog::info("nf_tables do not hold NAT here, {}: {}: {}", net::ToString(family),
                   refused.object, refused.message);
    }
  }
}

bool ReleaseHooks(const std::string& modules_root) {
  if (kube::KernelHasModule("nf_tables", modules_root) == false) return false;
  nft::Connection connection;
  bool any = false;
  for (const net::Family family : kFamilies) {
    if (!nft::HasTable(connection, family, kHoldTable)) continue;
    nft::Transaction transaction(family, kHoldTable);
    transaction.DeleteTable();
    for (const nft::Refusal& refused : connection.Commit(transaction)) {
      if (refused.error != ENOENT)
        throw std::system_error(refused.error, std::generic_category(), refused.object);
    }
    any = true;
  }
  return any;
}

}  // namespace pointsman::agent::kube_proxy
