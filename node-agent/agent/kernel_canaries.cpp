#include "node-agent/agent/kernel_canaries.h"

#include <array>
#include <cerrno>
#include <linux/ip_vs.h>
#include <netinet/in.h>
#include <span>
#include <sys/socket.h>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/iptables/iptables_family.h"
#include "node-agent/ipvs/chains.h"
#include "node-agent/ipvs/ipvs_dataplane.h"
#include "node-agent/ipvs/nat_guard.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/nft_chain.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/userspace/userspace_dataplane.h"
#include "node-agent/xtables/base_rules.h"
#include "node-agent/xtables/forward_accept.h"

namespace pointsman::agent {
namespace {

// Those of the chains that packets come to that are there with each configuration, and the one that
// leads to the Services.
constexpr std::array kNftChains{nft::kPrerouting,       nft::kOutput,       nft::kServicesChain,
                                nft::kRefusePrerouting, nft::kRefuseOutput, nft::kPostrouting};

std::string_view ChainPrefix(kube::Mode mode) {
  switch (mode) {
    case kube::Mode::kIptables:
      return IptablesFamily::kChainPrefix;
    case kube::Mode::kUserspace:
      return UserspaceDataplane::kChainPrefix;
    case kube::Mode::kIpvs:
      return ipvs::kChainPrefix;
    case kube::Mode::kNftables:
      return xtables::ForwardAccept::kPrefix;
  }
  return {};
}

// IPv4's are counted by the kernel (ip_vs_getinfo). To know of IPv6's they have to be listed.
bool AnyVirtualServer() {
  const UniqueFd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd) ThrowErrno("open a raw socket");
  ip_vs_getinfo info{};
  socklen_t size = sizeof info;
  const int result = ::getsockopt(fd.get(), IPPROTO_IP, IP_VS_SO_GET_INFO, &info, &size);
  const int error = result < 0 ? errno : 0;
  if (error == ENOPROTOOPT) return false;  // the module is not loaded
  if (error != 0) ThrowErrno("ask IPVS for its size", error);
  return info.num_services > 0 || !netlink::Ipvs().Servers().empty();
}

// None of the sets of what is served: this agent itself took the last virtual server away. Whoever
// empties IPVS's table leaves the sets as they are.
bool NothingIsServed() {
  netlink::Ipset ipset;
  std::vector<netlink::SetElement> elements;
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    const std::string set = ipvs::SetName(ipvs::SetId::kCluster, family);
    const int error = ipset.Elements(set, elements);
    if (error != 0 && error != ENOENT) ThrowErrno("list ipset " + set, error);
  }
  return elements.empty();
}

// Those that have rules.
void AddNftChains(net::Family family, std::string_view table,
                  std::span<const std::string_view> chains, Canaries::Names& names) {
  netlink::Socket socket(NETLINK_NETFILTER);
  for (const std::string_view chain : chains) {
    if (netlink::ReadNftChain(socket, family, table, chain).rules == 0) continue;
    names.insert(
        fmt::format("{} chain {} of nftables' table {}", net::ToString(family), chain, table));
  }
}

}  // namespace

void AddJumpsOf(kube::Mode mode, net::Family family, const std::set<xtables::KernelJump>& jumps,
                Canaries::Names& names) {
  const std::string_view prefix = ChainPrefix(mode);
  for (const auto& [table, builtin, target] : jumps) {
    if (target == xtables::KernelJump::kAcceptPolicy)
      names.insert(fmt::format("{} chain {} of iptables' table {}: the policy {}",
                               net::ToString(family), builtin, table, target));
    if (target != xtables::BaseRules::kPostroutingChain && !target.starts_with(prefix)) continue;
    names.insert(fmt::format("{} chain {} of iptables' table {}: the jump to {}",
                             net::ToString(family), builtin, table, target));
  }
}

void AddNftables(net::Family family, Canaries::Names& names) {
  AddNftChains(family, nft::kTable, kNftChains, names);
}

void AddIpvs(const std::string& modules_root, Canaries::Names& names) {
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    if (ipvs::NatGuard::MayHaveTables(modules_root))
      AddNftChains(family, ipvs::NatGuard::kTable, ipvs::NatGuard::kChains, names);
  }
  netlink::Socket route(NETLINK_ROUTE);
  if (netlink::FindLink(route, IpvsDataplane::kDevice))
    names.insert(fmt::format("interface {}", IpvsDataplane::kDevice));
  if (AnyVirtualServer() || NothingIsServed()) names.insert("the virtual servers of IPVS");
}

}  // namespace pointsman::agent
