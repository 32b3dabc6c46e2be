#include "node-agent/ipvs/nat_guard.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <array>
#include <cstdint>
#include <linux/netfilter.h>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "kube/process/kernel_module.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/netlink/nft_probe.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/kernel_table.h"

namespace pointsman::agent::ipvs {
namespace {

// Behind nftables mode's (-110): as soon as that mode's table is written, new connections are its.
// Before iptables' and those that others make in its image (-100).
constexpr int32_t kGuardPriority = -109;

constexpr std::array<uint32_t, 2> kHooks{NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT};  // of kChains

bool IsAsWanted(const nft::KernelTable& table, const std::vector<nft::Chain>& chains) {
  if (!table.present || table.chains.size() != chains.size()) return false;
  for (const nft::Chain& chain : chains) {
    const auto found = table.chains.find(chain.name);
    if (found == table.chains.end() || !found->second.HasHookOf(chain) ||
        !found->second.HasRulesOf(chain))
      return false;
  }
  return true;
}

void CommitGuard(nft::Connection& connection, nft::Transaction& transaction) {
  const std::vector<nft::Refusal> refusals = connection.Commit(transaction);
  if (refusals.empty()) return;
  throw std::runtime_error(fmt::format("nf_tables' table {}: {}: {}", NatGuard::kTable,
                                       refusals.front().object, refusals.front().message));
}

}  // namespace

std::vector<nft::Chain> NatGuard::Chains(net::Family family) const {
  const uint16_t vips = ipset_.IndexOf(SetName(SetId::kVip, family));
  std::vector<nft::Chain> chains;
  chains.reserve(kHooks.size());
  for (size_t i = 0; i < kHooks.size(); ++i) {
    nft::RuleBuilder rule(family);
    rule.DestinationInIpset(vips);
    if (kHooks[i] == NF_INET_LOCAL_OUT) rule.SetMark(mark_);
    rule.LoadDestination(0).DnatAddress(0);
    chains.push_back({std::string(kChains[i]),
                      nft::Hook{"nat", kHooks[i], kGuardPriority},
                      {rule.Build("a cluster IP is ipvs mode's")}});
  }
  return chains;
}

bool NatGuard::Supported(net::Family family) {
  if (!MayHaveTables(modules_root_)) return false;
  const auto [known, first] = supported_.try_emplace(family);
  if (first) {
    known->second =
        netlink::KernelHasNftNat(family) && netlink::KernelHasNftExpression("match", family);
    if (!known->second) {
      spdlog::info(
          "{}: this kernel's nf_tables has no NAT or not iptables' matches; a port that others "
          "publish by a table of their own takes that port of cluster IPs",
          net::ToString(family));
    }
  }
  return known->second;
}

size_t NatGuard::Ensure(net::Family family) {
  wanted_.erase(family);
  if (!Supported(family)) return 0;
  wanted_.insert(family);
  const std::vector<nft::Chain> chains = Chains(family);
  nft::Connection connection;
  const nft::KernelTable present = nft::ReadTable(connection, family, kTable);
  if (IsAsWanted(present, chains)) return 0;
  nft::Transaction transaction(family, kTable);
  if (present.present) transaction.DeleteTable();
  transaction.AddTable();
  for (const nft::Chain& chain : chains) {
    transaction.AddChain(chain);
    for (const nft::Rule& rule : chain.rules)
      transaction.AppendRule(chain.name, rule);
  }
  const size_t objects = transaction.objects();
  CommitGuard(connection, transaction);
  return objects;
}

void NatGuard::Verify(net::Family family, VerifyResult& result) const {
  if (!wanted_.contains(family)) return;
  ++result.objects_checked;
  nft::Connection connection;
  if (!IsAsWanted(nft::ReadTable(connection, family, kTable), Chains(family)))
    result.Differ(fmt::format("nf_tables' table {}", kTable),
                  "is missing or another one than was written");
}

bool NatGuard::Remove(net::Family family) {
  wanted_.erase(family);
  if (!Present(family)) return false;
  nft::Connection connection;
  nft::Transaction transaction(family, kTable);
  transaction.DeleteTable();
  CommitGuard(connection, transaction);
  return true;
}

bool NatGuard::MayHaveTables(const std::string& modules_root) {
  return kube::KernelHasModule("nf_tables", modules_root).value_or(true);
}

bool NatGuard::Present(net::Family family) const {
  if (!MayHaveTables(modules_root_)) return false;
  nft::Connection connection;
  return nft::HasTable(connection, family, kTable);
}

}  // namespace pointsman::agent::ipvs
