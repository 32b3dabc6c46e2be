#include "node-agent/testing/neighbours/plugins.h"

#include <fmt/format.h>

namespace pointsman::agent::testing {
namespace {

using Keeps = NeighbourRule::Keeps;

NeighbourRule Jump(const char* table, const char* builtin, const std::string& comment,
                   const std::string& chain, Keeps keeps = Keeps::kThere) {
  return {table, builtin, fmt::format("-m comment --comment \"{}\" -j {}", comment, chain), keeps};
}

// One that leads nowhere. A bridge without ports, since not every kernel has dummies.
Neighbour::Thing Link(const std::string& name) {
  return {{"ip", "link", "add", name, "type", "bridge"}, {"ip", "link", "del", name}};
}

}  // namespace

Neighbour Flannel(net::Family family, const std::string& pods, const std::string& node_pods) {
  const char* multicast = family == net::Family::kIPv4 ? "224.0.0.0/4" : "ff00::/8";
  return {.name = "Flannel",
          .chains = fmt::format(
              "*filter\n"
              ":FLANNEL-FWD - [0:0]\n"
              "-A FLANNEL-FWD -s {0} -m comment --comment \"flanneld forward\" -j ACCEPT\n"
              "-A FLANNEL-FWD -d {0} -m comment --comment \"flanneld forward\" -j ACCEPT\n"
              "COMMIT\n"
              "*nat\n"
              ":FLANNEL-POSTRTG - [0:0]\n"
              "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN\n"
              "-A FLANNEL-POSTRTG -s {1} -d {0} -j RETURN\n"
              "-A FLANNEL-POSTRTG -s {0} -d {1} -j RETURN\n"
              "-A FLANNEL-POSTRTG ! -s {0} -d {1} -j RETURN\n"
              "-A FLANNEL-POSTRTG -s {0} ! -d {2} -j MASQUERADE --random-fully\n"
              "-A FLANNEL-POSTRTG ! -s {0} -d {0} -j MASQUERADE --random-fully\n"
              "COMMIT\n",
              pods, node_pods, multicast),
          .rules = {
              Jump("filter", "FORWARD", "flanneld forward", "FLANNEL-FWD", Keeps::kThereAtEnd),
              Jump("nat", "POSTROUTING", "flanneld masq", "FLANNEL-POSTRTG", Keeps::kThereAtEnd)}};
}

Neighbour Cilium() {
  std::string marks;
  for (const char* own :
       {"0xe00/0xf00", "0xd00/0xf00", "0x400/0xf00", "0xa00/0xe00", "0x800/0xe00", "0xf00/0xf00"})
    marks += fmt::format("-m mark ! --mark {} ", own);
  return {.name = "Cilium",
          .chains = fmt::format("*filter\n"
                                ":CILIUM_FORWARD - [0:0]\n"
                                ":CILIUM_INPUT - [0:0]\n"
                                ":CILIUM_OUTPUT - [0:0]\n"
                                "-A CILIUM_FORWARD -o cilium_host -j ACCEPT\n"
                                "-A CILIUM_FORWARD -i cilium_host -j ACCEPT\n"
                                "-A CILIUM_FORWARD -i lxc+ -j ACCEPT\n"
                                "-A CILIUM_INPUT -m mark --mark 0x200/0xf00 -j ACCEPT\n"
                                "-A CILIUM_OUTPUT -m mark --mark 0xa00/0xe00 -j ACCEPT\n"
                                "-A CILIUM_OUTPUT {}-m comment --comment \"cilium: host->any mark "
                                "as from host\" -j MARK --set-xmark 0xc00/0xf00\n"
                                "COMMIT\n",
                                marks),
          .rules = {Jump("filter", "INPUT", "cilium-feeder: CILIUM_INPUT", "CILIUM_INPUT"),
                    Jump("filter", "FORWARD", "cilium-feeder: CILIUM_FORWARD", "CILIUM_FORWARD"),
                    Jump("filter", "OUTPUT", "cilium-feeder: CILIUM_OUTPUT", "CILIUM_OUTPUT")},
          .things = {Link("cilium_host")}};
}

Neighbour AwsVpcCni(net::Family family, const std::vector<std::string>& vpc,
                    const std::string& uplink, const std::string& link_prefix,
                    const std::string& node) {
  std::string in_vpc;
  for (const std::string& cidr : vpc) {
    in_vpc += fmt::format(
        "-A AWS-CONNMARK-CHAIN-0 -d {0} -m comment --comment \"AWS CONNMARK CHAIN, VPC CIDR\" -j "
        "RETURN\n"
        "-A AWS-SNAT-CHAIN-0 -d {0} -m comment --comment \"AWS SNAT CHAIN\" -j RETURN\n",
        cidr);
  }
  const auto restore = [](const std::string& match) {
    return fmt::format(
        "{}-m comment --comment \"AWS, CONNMARK\" -j CONNMARK --restore-mark --nfmask 0x80 "
        "--ctmask 0x80",
        match);
  };
  const char* ip = family == net::Family::kIPv4 ? "-4" : "-6";
  return {.name = "AwsVpcCni",
          .chains = fmt::format(
              "*nat\n"
              ":AWS-CONNMARK-CHAIN-0 - [0:0]\n"
              ":AWS-SNAT-CHAIN-0 - [0:0]\n"
              "{0}"
              "-A AWS-CONNMARK-CHAIN-0 -m comment --comment \"AWS, CONNMARK\" -j CONNMARK "
              "--set-xmark 0x80/0x80\n"
              "-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment \"AWS, SNAT\" -m addrtype ! "
              "--dst-type LOCAL -j SNAT --to-source {1} --random-fully\n"
              "COMMIT\n",
              in_vpc, node),
          .rules = {{"nat", "PREROUTING",
                     fmt::format("-i {}+ -m comment --comment \"AWS, outbound connections\" -j "
                                 "AWS-CONNMARK-CHAIN-0",
                                 link_prefix)},
                    {"nat", "PREROUTING", restore("")},
                    {"nat", "POSTROUTING",
                     "-m comment --comment \"AWS SNAT CHAIN\" -j AWS-SNAT-CHAIN-0"},
                    {"mangle", "PREROUTING",
                     fmt::format("-i {} -m comment --comment \"AWS, primary ENI\" -m addrtype "
                                 "--dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark "
                                 "0x80/0x80",
                                 uplink)},
                    {"mangle", "PREROUTING", restore(fmt::format("-i {}+ ", link_prefix))}},
          .things = {
              {{"ip", ip, "rule", "add", "fwmark", "0x80/0x80", "lookup", "main", "pref", "1024"},
               {"ip", ip, "rule", "del", "pref", "1024"}}}};
}

Neighbour NodeLocalDns(net::Family family, const std::string& cluster_ip, uint16_t port) {
  const bool v4 = family == net::Family::kIPv4;
  std::vector<std::string> address{"ip",  "address",     "add", cluster_ip + (v4 ? "/32" : "/128"),
                                   "dev", "nodelocaldns"};
  if (!v4) address.emplace_back("nodad");
  Neighbour neighbour{.name = "NodeLocalDns",
                      .chains = "",
                      .rules = {},
                      .things = {Link("nodelocaldns"),
                                 {{"ip", "link", "set", "nodelocaldns", "up"},
                                  {"ip", "link", "set", "nodelocaldns", "down"}},
                                 {address, {"ip", "address", "flush", "dev", "nodelocaldns"}}}};
  const std::string comment = "-m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j CT";
  for (const char* protocol : {"udp", "tcp"}) {
    const std::string to = fmt::format("-d {}/{} -p {} -m {} --dport {}", cluster_ip, v4 ? 32 : 128,
                                       protocol, protocol, port);
    const std::string from = fmt::format("-s {}/{} -p {} -m {} --sport {}", cluster_ip,
                                         v4 ? 32 : 128, protocol, protocol, port);
    neighbour.rules.insert(
        neighbour.rules.end(),
        {{"raw", "PREROUTING", fmt::format("{} {} --notrack", to, comment)},
         {"raw", "OUTPUT", fmt::format("{} {} --notrack", to, comment)},
         {"raw", "OUTPUT", fmt::format("{} {} --notrack", from, comment)},
         {"filter", "INPUT",
          fmt::format("{} -m comment --comment \"NodeLocal DNS Cache: allow DNS traffic\" -j "
                      "ACCEPT",
                      to)},
         {"filter", "OUTPUT",
          fmt::format("{} -m comment --comment \"NodeLocal DNS Cache: allow DNS traffic\" -j "
                      "ACCEPT",
                      from)}});
  }
  return neighbour;
}

}  // namespace pointsman::agent::testing
