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

// What a workload's link lets through.
std::string CalicoWorkload(const PodPolicy& policy) {
  return fmt::format(
      "-A cali-to-wl-dispatch -o {0} -g cali-tw-pod\n"
      "-A cali-tw-pod -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
      "-A cali-tw-pod -m conntrack --ctstate INVALID -j DROP\n"
      "-A cali-tw-pod -j MARK --set-xmark 0x0/0x10000\n"
      "-A cali-tw-pod -s {1} -j MARK --set-xmark 0x10000/0x10000\n"
      "-A cali-tw-pod -m mark --mark 0x10000/0x10000 -j RETURN\n"
      "-A cali-tw-pod -j DROP\n",
      policy.link, policy.allowed);
}

}  // namespace

Neighbour KubeRouter(net::Family family, const PodPolicy& policy) {
  const char* unreachable =
      family == net::Family::kIPv4 ? "icmp-port-unreachable" : "icmp6-port-unreachable";
  std::string chains =
      "*filter\n"
      ":KUBE-ROUTER-INPUT - [0:0]\n"
      ":KUBE-ROUTER-FORWARD - [0:0]\n"
      ":KUBE-ROUTER-OUTPUT - [0:0]\n"
      ":KUBE-NWPLCY-COMMON - [0:0]\n"
      ":KUBE-NWPLCY-POLICY - [0:0]\n"
      ":KUBE-POD-FW-POD - [0:0]\n"
      "-A KUBE-NWPLCY-COMMON -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
      "-A KUBE-NWPLCY-COMMON -m conntrack --ctstate INVALID -j DROP\n";
  for (const char* chain : {"FORWARD", "OUTPUT"})
    chains += fmt::format("-A KUBE-ROUTER-{} -d {} -j KUBE-POD-FW-POD\n", chain, policy.pod);
  for (const char* chain : {"INPUT", "FORWARD", "OUTPUT"}) {
    chains += fmt::format(
        "-A KUBE-ROUTER-{0} -s {1} -j KUBE-POD-FW-POD\n"
        "-A KUBE-ROUTER-{0} -m mark --mark 0x20000/0x20000 -j ACCEPT\n",
        chain, policy.pod);
  }
  chains += fmt::format(
      "-A KUBE-POD-FW-POD -j KUBE-NWPLCY-COMMON\n"
      "-A KUBE-POD-FW-POD -d {0} -m addrtype --src-type LOCAL -j ACCEPT\n"
      "-A KUBE-POD-FW-POD -d {0} -j KUBE-NWPLCY-POLICY\n"
      "-A KUBE-POD-FW-POD -s {0} -j MARK --set-xmark 0x10000/0x10000\n"
      "-A KUBE-NWPLCY-POLICY -s {1} -j MARK --set-xmark 0x10000/0x10000\n"
      "-A KUBE-POD-FW-POD -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with {2}\n"
      "-A KUBE-POD-FW-POD -j MARK --set-xmark 0x0/0x10000\n"
      "-A KUBE-POD-FW-POD -j MARK --set-xmark 0x20000/0x20000\n"
      "COMMIT\n",
      policy.pod, policy.allowed, unreachable);
  return {.name = "KubeRouter",
          .chains = chains,
          .rules = Jumps("KUBE-ROUTER-", "kube-router netpol", Keeps::kFirst)};
}

Neighbour Calico(const PodPolicy& policy, const std::string& link_prefix, CalicoInserts inserts) {
  return {.name = inserts == CalicoInserts::kFirst ? "Calico" : "CalicoAppending",
          .chains = fmt::format("*filter\n"
                                ":cali-INPUT - [0:0]\n"
                                ":cali-FORWARD - [0:0]\n"
                                ":cali-OUTPUT - [0:0]\n"
                                ":cali-wl-to-host - [0:0]\n"
                                ":cali-to-wl-dispatch - [0:0]\n"
                                ":cali-tw-pod - [0:0]\n"
                                "-A cali-INPUT -i {0}+ -g cali-wl-to-host\n"
                                "-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
                                "-A cali-wl-to-host -j ACCEPT\n"
                                "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000\n"
                                "-A cali-FORWARD -o {0}+ -j cali-to-wl-dispatch\n"
                                "-A cali-FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
                                "-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
                                "-A cali-OUTPUT -o {0}+ -j RETURN\n"
                                "{1}"
                                "COMMIT\n",
                                link_prefix, CalicoWorkload(policy)),
          .rules = Jumps("cali-",
                         "cali:", inserts == CalicoInserts::kFirst ? Keeps::kFirst : Keeps::kLast)};
}

Neighbour CalicoForIpvs(const PodPolicy& policy, const std::string& link_prefix,
                        const std::vector<std::string>& node, CalicoInserts inserts) {
  std::string forward_check;
  for (const std::string& address : node) {
    forward_check += fmt::format(
        "-A cali-forward-check -d {0} -p tcp -m multiport --dports 30000:32767 -g "
        "cali-set-endpoint-mark\n"
        "-A cali-forward-check -d {0} -j RETURN\n",
        address);
  }
  return {.name = inserts == CalicoInserts::kFirst ? "CalicoForIpvs" : "CalicoForIpvsAppending",
          .chains = fmt::format(
              "*filter\n"
              ":cali-INPUT - [0:0]\n"
              ":cali-FORWARD - [0:0]\n"
              ":cali-OUTPUT - [0:0]\n"
              ":cali-wl-to-host - [0:0]\n"
              ":cali-forward-check - [0:0]\n"
              ":cali-set-endpoint-mark - [0:0]\n"
              ":cali-forward-endpoint-mark - [0:0]\n"
              ":cali-to-wl-dispatch - [0:0]\n"
              ":cali-tw-pod - [0:0]\n"
              "-A cali-INPUT -j MARK --set-xmark 0x0/0xfff00000\n"
              "-A cali-INPUT -j cali-forward-check\n"
              "-A cali-INPUT -m mark ! --mark 0x0/0xfff00000 -j RETURN\n"
              "-A cali-INPUT -i {0}+ -g cali-wl-to-host\n"
              "-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
              "-A cali-wl-to-host -j ACCEPT\n"
              "-A cali-forward-check -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN\n"
              "{1}"
              "-A cali-forward-check -j cali-set-endpoint-mark\n"
              "-A cali-set-endpoint-mark -j MARK --set-xmark 0x100000/0xfff00000\n"
              "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000\n"
              "-A cali-FORWARD -o {0}+ -j cali-to-wl-dispatch\n"
              "-A cali-FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
              "-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
              "-A cali-OUTPUT -m mark ! --mark 0x0/0xfff00000 -g cali-forward-endpoint-mark\n"
              "-A cali-OUTPUT -o {0}+ -j RETURN\n"
              "-A cali-forward-endpoint-mark -o {0}+ -j cali-to-wl-dispatch\n"
              "-A cali-forward-endpoint-mark -j MARK --set-xmark 0x0/0xfff00000\n"
              "-A cali-forward-endpoint-mark -m mark --mark 0x10000/0x10000 -j ACCEPT\n"
              "{2}"
              "COMMIT\n",
              link_prefix, forward_check, CalicoWorkload(policy)),
          .rules = Jumps("cali-",
                         "cali:", inserts == CalicoInserts::kFirst ? Keeps::kFirst : Keeps::kLast)};
}

Neighbour Weave(const PodPolicy& policy) {
  const std::string to = fmt::format("-o {}", policy.link);
  return {
      .name = "Weave",
      .chains = fmt::format("*filter\n"
                            ":WEAVE-NPC - [0:0]\n"
                            ":WEAVE-NPC-INGRESS - [0:0]\n"
                            "-A WEAVE-NPC -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
                            "-A WEAVE-NPC -m conntrack --ctstate NEW -j WEAVE-NPC-INGRESS\n"
                            "-A WEAVE-NPC-INGRESS -s {} -d {} -j ACCEPT\n"
                            "COMMIT\n",
                            policy.allowed, policy.pod),
      .rules = {{"filter", "FORWARD", to + " -j WEAVE-NPC", Keeps::kThere},
                {"filter", "FORWARD", to + " -j DROP", Keeps::kThere}}};
}

Neighbour AzureNpm(const PodPolicy& policy) {
  return {
      .name = "AzureNpm",
      .chains = fmt::format("*filter\n"
                            ":AZURE-NPM - [0:0]\n"
                            ":AZURE-NPM-INGRESS - [0:0]\n"
                            "-A AZURE-NPM -j AZURE-NPM-INGRESS\n"
                            "-A AZURE-NPM-INGRESS -s {0} -d {1} -j RETURN\n"
                            "-A AZURE-NPM-INGRESS -d {1} -j DROP\n"
                            "COMMIT\n",
                            policy.allowed, policy.pod),
      .rules = {{"filter", "FORWARD", "-m conntrack --ctstate NEW -j AZURE-NPM", Keeps::kThere}}};
}

}  // namespace pointsman::agent::testing
