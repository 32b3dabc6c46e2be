#include "node-agent/preflight/required_modules.h"

#include <cstdio>

namespace pointsman::agent {

using kube::Mode;

KernelVersion ParseKernelVersion(std::string_view release) {
  KernelVersion version;
  if (std::sscanf(std::string(release).c_str(), "%d.%d", &version.major, &version.minor) != 2) {
    return {};
  }
  return version;
}

KernelVersion OldestKernel(Mode mode) {
  switch (mode) {
    case Mode::kNftables:
      return {5, 10};
    case Mode::kIpvs:
    case Mode::kIptables:
    case Mode::kUserspace:
      return {3, 13};  // MASQUERADE --random-fully
  }
  return {};
}

std::vector<std::string> LegacyTableModules() {
  return {"ip_tables", "iptable_nat", "iptable_filter"};
}

std::vector<std::string> NftTableModules(KernelVersion version) {
  // The families' nat chains were merged in 5.1.
  return {"nf_tables", version < KernelVersion{5, 1} ? "nft_chain_nat_ipv4" : "nft_chain_nat",
          "nft_compat"};
}

std::vector<std::string> RequiredModules(Mode mode, const kube::ProxySettings& settings,
                                         KernelVersion version) {
  // The families' conntrack modules were merged in 4.19.
  std::vector<std::string> modules = {version < KernelVersion{4, 19} ? "nf_conntrack_ipv4"
                                                                     : "nf_conntrack"};
  auto add = [&](std::initializer_list<const char*> names) {
    modules.insert(modules.end(), names.begin(), names.end());
  };
  // Counting and clearing the connections that a mode carries.
  add({"nf_conntrack_netlink"});
  switch (mode) {
    case Mode::kIpvs:
      modules.insert(modules.begin(), {"ip_vs", "ip_vs_" + settings.ipvs.scheduler});
      add({"dummy", "ip_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
           "ip_set_hash_ipportnet", "ip_set_hash_netport", "xt_set", "xt_nat", "xt_NETMAP",
           "xt_tcpudp", "xt_comment", "xt_mark", "xt_conntrack", "xt_addrtype", "ipt_MASQUERADE",
           "ipt_REJECT"});
      break;
    case Mode::kIptables:
      add({"xt_nat", "xt_tcpudp", "xt_comment", "xt_mark", "xt_conntrack", "xt_addrtype",
           "xt_statistic", "ipt_MASQUERADE", "ipt_REJECT"});
      break;
    case Mode::kUserspace:
      add({"xt_nat", "xt_tcpudp", "xt_comment", "xt_mark", "xt_conntrack", "xt_addrtype",
           "ipt_MASQUERADE", "ipt_REJECT"});
      break;
    case Mode::kNftables:
      add({"nf_tables", "nft_chain_nat", "nft_ct", "nft_nat", "nft_masq", "nft_reject_ipv4",
           "nft_fib_ipv4", "nft_numgen"});
      break;
  }
  return modules;
}

std::vector<OptionalModule> OptionalModules(Mode mode, bool ipv6) {
  switch (mode) {
    case Mode::kIptables:
      return {{"xt_recent", "Services with sessionAffinity: ClientIP are served without it"},
              {"xt_bpf",
               "pods that reach themselves through their Service take one rule each instead of "
               "one for all"}};
    case Mode::kNftables:
      if (!ipv6) break;
      return {{"nft_fib_ipv6", "IPv6 Services cannot be served"},
              {"nft_reject_ipv6", "IPv6 Services cannot be served"}};
    case Mode::kIpvs:
    case Mode::kUserspace:
      break;
  }
  return {};
}

}  // namespace pointsman::agent
