#include "node-agent/testing/neighbours/policy_engines.h"

#include <fmt/format.h>

namespace pointsman::agent::testing {
namespace {

using Keeps = NeighbourRule::Keeps;

// Rules in three builtin chains of table filter that jump to `prefix` and the chain's name.
std::vector<NeighbourRule> Jumps(const std::string& prefix, const std::string& comment,
                                 Keeps keeps) {
  std::vector<NeighbourRule> rules;
  for (const char* builtin : {"INPUT", "FORWARD", "OUTPUT"}) {
    rules.push_back({.table = "filter",
                     .builtin = builtin,
                     .rule = fmt::format("-m comment --comment \"{} {}\" -j {}{}", comment, builtin,
                                         prefix, builtin),
                     .keeps = keeps});
  }
  return rules;
}

// Of IPv6, what makes neighbours find each other is no pod's traffic.
std::string LetNeighboursBeFound(net::Family family, const std::string& chain) {
  return family == net::Family::kIPv4 ? "" : fmt::format("-A {} -p ipv6-icmp -j ACCEPT\n", chain);
}

// What a workload's chain lets through: `match` is -s or -d, of those that `allowed` lists.
std::string CalicoEndpoint(const std::string& chain, const char* match,
                           const std::optional<std::vector<std::string>>& allowed) {
  std::string text = fmt::format(
      "-A {0} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
      "-A {0} -m conntrack --ctstate INVALID -j DROP\n"
      "-A {0} -j MARK --set-xmark 0x0/0x10000\n",
      chain);
  for (const std::string& address : allowed.value_or(std::vector<std::string>{})) {
    text +=
        fmt::format("-A {0} {1} {2} -j MARK --set-xmark 0x10000/0x10000\n", chain, match, address);
  }
  // Without a policy the profile of its namespace allows all.
  if (!allowed) text += fmt::format("-A {} -j MARK --set-xmark 0x10000/0x10000\n", chain);
  return text + fmt::format(
                    "-A {0} -m mark --mark 0x10000/0x10000 -j RETURN\n"
                    "-A {0} -j DROP\n",
                    chain);
}

// The chains that all workloads have, by their links.
struct CalicoWorkloads {
  std::string declared;
  std::string rules;
};

CalicoWorkloads CalicoChains(const PodPolicies& policies, bool for_ipvs) {
  CalicoWorkloads out{.declared =
                          ":cali-from-wl-dispatch - [0:0]\n"
                          ":cali-to-wl-dispatch - [0:0]\n",
                      .rules = ""};
  if (for_ipvs)
    out.declared +=
        ":cali-set-endpoint-mark - [0:0]\n"
        ":cali-from-endpoint-mark - [0:0]\n";
  for (size_t i = 0; i < policies.size(); ++i) {
    const PodPolicy& policy = policies[i];
    // 0x100000 is that of no workload.
    const size_t mark = (i + 2) << 20U;
    out.declared += fmt::format(":cali-tw-pod{0} - [0:0]\n:cali-fw-pod{0} - [0:0]\n", i);
    out.rules += fmt::format(
        "-A cali-from-wl-dispatch -i {1} -g cali-fw-pod{0}\n"
        "-A cali-to-wl-dispatch -o {1} -g cali-tw-pod{0}\n",
        i, policy.link);
    out.rules += CalicoEndpoint(fmt::format("cali-fw-pod{}", i), "-d", policy.egress_to);
    out.rules += CalicoEndpoint(fmt::format("cali-tw-pod{}", i), "-s", policy.ingress_from);
    if (!for_ipvs) continue;
    out.declared += fmt::format(":cali-sm-pod{} - [0:0]\n", i);
    out.rules += fmt::format(
        "-A cali-set-endpoint-mark -i {1} -g cali-sm-pod{0}\n"
        "-A cali-sm-pod{0} -j MARK --set-xmark {2:#x}/0xfff00000\n"
        "-A cali-from-endpoint-mark -m mark --mark {2:#x}/0xfff00000 -g cali-fw-pod{0}\n",
        i, policy.link, mark);
  }
  if (for_ipvs)
    out.rules +=
        "-A cali-set-endpoint-mark -j MARK --set-xmark 0x100000/0xfff00000\n"
        "-A cali-from-endpoint-mark -j DROP\n";
  return out;
}

std::string CalicoForward(const std::string& link_prefix) {
  return fmt::format(
      "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000\n"
      "-A cali-FORWARD -i {0}+ -j cali-from-wl-dispatch\n"
      "-A cali-FORWARD -o {0}+ -j cali-to-wl-dispatch\n"
      "-A cali-FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n",
      link_prefix);
}

std::string CalicoWorkloadToHost(net::Family family) {
  return LetNeighboursBeFound(family, "cali-wl-to-host") +
         "-A cali-wl-to-host -j cali-from-wl-dispatch\n"
         "-A cali-wl-to-host -j ACCEPT\n";
}

std::vector<NeighbourRule> CalicoJumps(CalicoInserts inserts) {
  return Jumps("cali-", "cali:", inserts == CalicoInserts::kFirst ? Keeps::kFirst : Keeps::kLast);
}

}  // namespace

Neighbour KubeRouter(net::Family family, const PodPolicies& policies,
                     const std::string& cluster_ips) {
  const char* unreachable =
      family == net::Family::kIPv4 ? "icmp-port-unreachable" : "icmp6-port-unreachable";
  std::string chains =
      "*filter\n"
      ":KUBE-ROUTER-INPUT - [0:0]\n"
      ":KUBE-ROUTER-FORWARD - [0:0]\n"
      ":KUBE-ROUTER-OUTPUT - [0:0]\n"
      ":KUBE-NWPLCY-COMMON - [0:0]\n"
      "-A KUBE-NWPLCY-COMMON -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
      "-A KUBE-NWPLCY-COMMON -m conntrack --ctstate INVALID -j DROP\n" +
      LetNeighboursBeFound(family, "KUBE-NWPLCY-COMMON");
  chains += fmt::format("-A KUBE-ROUTER-INPUT -d {} -j RETURN\n", cluster_ips);
  for (const char* protocol : {"tcp", "udp"}) {
    chains += fmt::format(
        "-A KUBE-ROUTER-INPUT -p {} -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 "
        "-j RETURN\n",
        protocol);
  }
  for (size_t i = 0; i < policies.size(); ++i) {
    const PodPolicy& policy = policies[i];
    const std::string firewall = fmt::format("KUBE-POD-FW-POD{}", i);
    const std::string rules = fmt::format("KUBE-NWPLCY-POLICY{}", i);
    chains += fmt::format(":{} - [0:0]\n:{} - [0:0]\n", firewall, rules);
    if (!policy.ingress_from && !policy.egress_to) continue;
    chains += fmt::format("-A {} -j KUBE-NWPLCY-COMMON\n", firewall);
    if (policy.ingress_from) {
      for (const char* chain : {"FORWARD", "OUTPUT"})
        chains += fmt::format("-A KUBE-ROUTER-{} -d {} -j {}\n", chain, policy.pod, firewall);
      chains += fmt::format("-A {0} -d {1} -m addrtype --src-type LOCAL -j ACCEPT\n", firewall,
                            policy.pod);
      for (const std::string& from : *policy.ingress_from) {
        chains += fmt::format("-A {} -s {} -d {} -j MARK --set-xmark 0x10000/0x10000\n", rules,
                              from, policy.pod);
      }
    } else {
      chains += fmt::format("-A {} -d {} -j MARK --set-xmark 0x10000/0x10000\n", rules, policy.pod);
    }
    if (policy.egress_to) {
      for (const std::string& to : *policy.egress_to) {
        chains += fmt::format("-A {} -s {} -d {} -j MARK --set-xmark 0x10000/0x10000\n", rules,
                              policy.pod, to);
      }
    } else {
      chains += fmt::format("-A {} -s {} -j MARK --set-xmark 0x10000/0x10000\n", rules, policy.pod);
    }
    for (const char* builtin : {"INPUT", "FORWARD", "OUTPUT"})
      chains += fmt::format("-A KUBE-ROUTER-{} -s {} -j {}\n", builtin, policy.pod, firewall);
    chains += fmt::format(
        "-A {0} -j {1}\n"
        "-A {0} -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with {2}\n"
        "-A {0} -j MARK --set-xmark 0x0/0x10000\n"
        "-A {0} -j MARK --set-xmark 0x20000/0x20000\n",
        firewall, rules, unreachable);
  }
  for (const char* builtin : {"INPUT", "FORWARD", "OUTPUT"})
    chains += fmt::format("-A KUBE-ROUTER-{} -m mark --mark 0x20000/0x20000 -j ACCEPT\n", builtin);
  return {.name = "KubeRouter",
          .chains = chains + "COMMIT\n",
          .rules = Jumps("KUBE-ROUTER-", "kube-router netpol", Keeps::kFirst)};
}

Neighbour Calico(net::Family family, const PodPolicies& policies, const std::string& link_prefix,
                 CalicoInserts inserts) {
  const CalicoWorkloads workloads = CalicoChains(policies, false);
  return {.name = inserts == CalicoInserts::kFirst ? "Calico" : "CalicoAppending",
          .chains = fmt::format("*filter\n"
                                ":cali-INPUT - [0:0]\n"
                                ":cali-FORWARD - [0:0]\n"
                                ":cali-OUTPUT - [0:0]\n"
                                ":cali-wl-to-host - [0:0]\n"
                                "{1}"
                                "-A cali-INPUT -i {0}+ -g cali-wl-to-host\n"
                                "-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
                                "{2}{3}"
                                "-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
                                "-A cali-OUTPUT -o {0}+ -j RETURN\n"
                                "{4}"
                                "COMMIT\n",
                                link_prefix, workloads.declared, CalicoWorkloadToHost(family),
                                CalicoForward(link_prefix), workloads.rules),
          .rules = CalicoJumps(inserts)};
}

Neighbour CalicoForIpvs(net::Family family, const PodPolicies& policies,
                        const std::string& link_prefix, const std::vector<std::string>& node,
                        CalicoInserts inserts) {
  const CalicoWorkloads workloads = CalicoChains(policies, true);
  std::string forward_check;
  for (const std::string& address : node) {
    for (const char* protocol : {"tcp", "udp"}) {
      forward_check += fmt::format(
          "-A cali-forward-check -d {} -p {} -m multiport --dports 30000:32767 -g "
          "cali-set-endpoint-mark\n",
          address, protocol);
    }
    forward_check += fmt::format("-A cali-forward-check -d {} -j RETURN\n", address);
  }
  return {.name = inserts == CalicoInserts::kFirst ? "CalicoForIpvs" : "CalicoForIpvsAppending",
          .chains = fmt::format(
              "*filter\n"
              ":cali-INPUT - [0:0]\n"
              ":cali-FORWARD - [0:0]\n"
              ":cali-OUTPUT - [0:0]\n"
              ":cali-wl-to-host - [0:0]\n"
              ":cali-forward-check - [0:0]\n"
              ":cali-forward-endpoint-mark - [0:0]\n"
              "{2}"
              "-A cali-INPUT -j MARK --set-xmark 0x0/0xfff00000\n"
              "-A cali-INPUT -j cali-forward-check\n"
              "-A cali-INPUT -m mark ! --mark 0x0/0xfff00000 -j RETURN\n"
              "-A cali-INPUT -i {0}+ -g cali-wl-to-host\n"
              "-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
              "-A cali-forward-check -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN\n"
              "{1}"
              "-A cali-forward-check -j cali-set-endpoint-mark\n"
              "{3}{4}"
              "-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
              "-A cali-OUTPUT -m mark ! --mark 0x0/0xfff00000 -g cali-forward-endpoint-mark\n"
              "-A cali-OUTPUT -o {0}+ -j RETURN\n"
              "-A cali-forward-endpoint-mark -m mark ! --mark 0x100000/0xfff00000 -j "
              "cali-from-endpoint-mark\n"
              "-A cali-forward-endpoint-mark -o {0}+ -j cali-to-wl-dispatch\n"
              "-A cali-forward-endpoint-mark -j MARK --set-xmark 0x0/0xfff00000\n"
              "-A cali-forward-endpoint-mark -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
              "{5}"
              "COMMIT\n",
              link_prefix, forward_check, workloads.declared, CalicoWorkloadToHost(family),
              CalicoForward(link_prefix), workloads.rules),
          .rules = CalicoJumps(inserts)};
}

Neighbour Weave(const PodPolicies& policies) {
  Neighbour neighbour{.name = "Weave",
                      .chains =
                          "*filter\n"
                          ":WEAVE-NPC - [0:0]\n"
                          ":WEAVE-NPC-INGRESS - [0:0]\n"
                          "-A WEAVE-NPC -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
                          "-A WEAVE-NPC -m conntrack --ctstate NEW -j WEAVE-NPC-INGRESS\n",
                      .rules = {}};
  for (const PodPolicy& policy : policies) {
    if (!policy.ingress_from) continue;
    for (const std::string& from : *policy.ingress_from)
      neighbour.chains +=
          fmt::format("-A WEAVE-NPC-INGRESS -s {} -d {} -j ACCEPT\n", from, policy.pod);
    const std::string to = fmt::format("-o {}", policy.link);
    neighbour.rules.push_back({"filter", "FORWARD", to + " -j WEAVE-NPC", Keeps::kThere});
    neighbour.rules.push_back({"filter", "FORWARD", to + " -j DROP", Keeps::kThere});
  }
  neighbour.chains += "COMMIT\n";
  return neighbour;
}

Neighbour AzureNpm(const PodPolicies& policies) {
  std::string chains =
      "*filter\n"
      ":AZURE-NPM - [0:0]\n"
      ":AZURE-NPM-INGRESS - [0:0]\n"
      ":AZURE-NPM-EGRESS - [0:0]\n"
      "-A AZURE-NPM -j AZURE-NPM-INGRESS\n"
      "-A AZURE-NPM -j AZURE-NPM-EGRESS\n";
  const auto let_only = [&](const char* chain, const char* pod_match, const std::string& pod,
                            const char* peer_match, const std::vector<std::string>& peers) {
    for (const std::string& peer : peers)
      chains +=
          fmt::format("-A {} {} {} {} {} -j RETURN\n", chain, peer_match, peer, pod_match, pod);
    chains += fmt::format("-A {} {} {} -j DROP\n", chain, pod_match, pod);
  };
  for (const PodPolicy& policy : policies) {
    if (policy.ingress_from)
      let_only("AZURE-NPM-INGRESS", "-d", policy.pod, "-s", *policy.ingress_from);
    if (policy.egress_to) let_only("AZURE-NPM-EGRESS", "-s", policy.pod, "-d", *policy.egress_to);
  }
  return {
      .name = "AzureNpm",
      .chains = chains + "COMMIT\n",
      .rules = {{"filter", "FORWARD", "-m conntrack --ctstate NEW -j AZURE-NPM", Keeps::kThere}}};
}

}  // namespace pointsman::agent::testing
