#include "node-agent/kube_proxy/names.h"

#include <algorithm>
#include <array>
#include <netinet/in.h>

namespace pointsman::agent::kube_proxy {
namespace {

template <size_t kCount>
bool Has(const std::array<std::string_view, kCount>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// One for each Service port or endpoint.
constexpr std::array<std::string_view, 6> kPerService{"KUBE-SVC-", "KUBE-SEP-", "KUBE-FW-",
                                                      "KUBE-XLB-", "KUBE-EXT-", "KUBE-SVL-"};
constexpr std::array<std::string_view, 13> kNat{
    "KUBE-SERVICES", "KUBE-NODEPORTS", kPostrouting, "KUBE-PROXY-CANARY",
    // mode ipvs
    "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-FIREWALL",
    // mode userspace
    "KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST", "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST",
    "KUBE-NODEPORT-NON-LOCAL", "KUBE-HAIRPIN"};
constexpr std::array<std::string_view, 11> kFilter{
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY",
    // mode ipvs
    "KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
    // mode userspace
    "KUBE-NODEPORT-NON-LOCAL"};

constexpr std::string_view kCanary = "KUBE-PROXY-CANARY";
// What modes iptables and ipvs both have, and what only one of them has.
constexpr std::array<std::string_view, 2> kFilterOfBoth{"KUBE-FORWARD", "KUBE-PROXY-FIREWALL"};
constexpr std::array<std::string_view, 2> kNatOfBoth{"KUBE-SERVICES", kPostrouting};
constexpr std::array<std::string_view, 3> kFilterOfIptables{
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS"};
constexpr std::array<std::string_view, 3> kNatOfIpvs{"KUBE-NODE-PORT", "KUBE-LOAD-BALANCER",
                                                     "KUBE-FIREWALL"};
constexpr std::array<std::string_view, 4> kFilterOfIpvs{
    "KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER"};

// Of ipset.go; those of IPv6 begin with "KUBE-6-".
constexpr std::array<std::string_view, 17> kIpsets{"KUBE-LOOP-BACK",
                                                   "KUBE-CLUSTER-IP",
                                                   "KUBE-EXTERNAL-IP",
                                                   "KUBE-EXTERNAL-IP-LOCAL",
                                                   "KUBE-LOAD-BALANCER",
                                                   "KUBE-LOAD-BALANCER-LOCAL",
                                                   "KUBE-LOAD-BALANCER-FW",
                                                   "KUBE-LOAD-BALANCER-SOURCE-IP",
                                                   "KUBE-LOAD-BALANCER-SOURCE-CIDR",
                                                   "KUBE-NODE-PORT-TCP",
                                                   "KUBE-NODE-PORT-LOCAL-TCP",
                                                   "KUBE-NODE-PORT-UDP",
                                                   "KUBE-NODE-PORT-LOCAL-UDP",
                                                   "KUBE-NODE-PORT-SCTP-HASH",
                                                   "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
                                                   "KUBE-HEALTH-CHECK-NODE-PORT",
                                                   "KUBE-IPVS-IPS"};

bool IsPerService(std::string_view chain) {
  return std::any_of(kPerService.begin(), kPerService.end(),
                     [&](std::string_view prefix) { return chain.starts_with(prefix); });
}

}  // namespace

bool IsChain(std::string_view table, std::string_view chain) {
  if (table == "mangle") return chain == kCanary;
  const bool per_service = IsPerService(chain);
  if (table == "nat") return per_service || Has(kNat, chain);
  if (table == "filter") return per_service || Has(kFilter, chain);
  return false;
}

bool IsChainOf(kube::Mode mode, std::string_view table, std::string_view chain) {
  const bool iptables = mode == kube::Mode::kIptables;
  const bool ipvs = mode == kube::Mode::kIpvs;
  if (!iptables && !ipvs) return false;
  if (chain == kCanary) return true;
  if (table == "nat") {
    return Has(kNatOfBoth, chain) ||
           (iptables ? chain == "KUBE-NODEPORTS" || IsPerService(chain) : Has(kNatOfIpvs, chain));
  }
  if (table == "filter") {
    return Has(kFilterOfBoth, chain) ||
           (iptables ? Has(kFilterOfIptables, chain) || IsPerService(chain)
                     : Has(kFilterOfIpvs, chain));
  }
  return false;
}

bool IsTrace(std::string_view table, std::string_view chain) {
  return table == "nat" && chain == "KUBE-SERVICES";
}

bool IsIpset(std::string_view name) {
  // NewIPSet cuts the names of IPv6 at what the kernel takes: "KUBE-6-LOAD-BALANCER-SOURCE-CID".
  constexpr size_t kLongest = 31;
  constexpr std::string_view kIpv4 = "KUBE-";
  constexpr std::string_view kIpv6 = "KUBE-6-";
  if (!name.starts_with(kIpv6)) return Has(kIpsets, name);
  const std::string_view rest = name.substr(kIpv6.size());
  return std::any_of(kIpsets.begin(), kIpsets.end(), [&](std::string_view of) {
    return rest == of.substr(kIpv4.size()).substr(0, kLongest - kIpv6.size());
  });
}

std::string_view NodePortSet(int protocol) {
  if (protocol == IPPROTO_TCP) return "KUBE-NODE-PORT-TCP";
  if (protocol == IPPROTO_UDP) return "KUBE-NODE-PORT-UDP";
  if (protocol == IPPROTO_SCTP) return "KUBE-NODE-PORT-SCTP-HASH";
  return {};
}

}  // namespace pointsman::agent::kube_proxy
