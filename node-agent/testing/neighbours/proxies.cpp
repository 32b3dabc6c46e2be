#include "node-agent/testing/neighbours/proxies.h"

#include <fmt/format.h>

namespace pointsman::agent::testing {

Neighbour KubeProxy(const std::string& cluster_ip, uint16_t port, const std::string& endpoint) {
  Neighbour neighbour{
      .name = "KubeProxy",
      .chains = fmt::format(
          "*filter\n"
          ":KUBE-EXTERNAL-SERVICES - [0:0]\n"
          ":KUBE-FIREWALL - [0:0]\n"
          ":KUBE-FORWARD - [0:0]\n"
          ":KUBE-NODEPORTS - [0:0]\n"
          ":KUBE-PROXY-FIREWALL - [0:0]\n"
          ":KUBE-SERVICES - [0:0]\n"
          "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate "
          "RELATED,ESTABLISHED,DNAT -j DROP\n"
          "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n"
          "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n"
          "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
          "COMMIT\n"
          "*nat\n"
          ":KUBE-MARK-MASQ - [0:0]\n"
          ":KUBE-NODEPORTS - [0:0]\n"
          ":KUBE-POSTROUTING - [0:0]\n"
          ":KUBE-SERVICES - [0:0]\n"
          ":KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]\n"
          ":KUBE-SEP-ABCDEFGHIJKLMNOP - [0:0]\n"
          "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
          "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n"
          "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n"
          "-A KUBE-POSTROUTING -j MASQUERADE\n"
          "-A KUBE-SERVICES -d {0}/32 -p tcp -m tcp --dport {1} -j KUBE-SVC-ABCDEFGHIJKLMNOP\n"
          "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n"
          "-A KUBE-SVC-ABCDEFGHIJKLMNOP -j KUBE-SEP-ABCDEFGHIJKLMNOP\n"
          "-A KUBE-SEP-ABCDEFGHIJKLMNOP -p tcp -m tcp -j DNAT --to-destination {2}\n"
          "COMMIT\n",
          cluster_ip, port, endpoint),
      .rules = {}};
  const auto jump = [&](const char* table, const char* builtin, const char* match,
                        const char* comment, const char* chain) {
    neighbour.rules.push_back(
        {table, builtin,
         fmt::format("{}-m comment --comment \"kubernetes {}\" -j {}", match, comment, chain)});
  };
  constexpr const char* kNew = "-m conntrack --ctstate NEW ";
  for (const char* builtin : {"INPUT", "FORWARD"})
    jump("filter", builtin, kNew, "externally-visible service portals", "KUBE-EXTERNAL-SERVICES");
  jump("filter", "INPUT", "", "health check service ports", "KUBE-NODEPORTS");
  for (const char* builtin : {"FORWARD", "OUTPUT"})
    jump("filter", builtin, kNew, "service portals", "KUBE-SERVICES");
  jump("filter", "FORWARD", "", "forwarding rules", "KUBE-FORWARD");
  for (const char* builtin : {"INPUT", "FORWARD", "OUTPUT"})
    jump("filter", builtin, kNew, "load balancer firewall", "KUBE-PROXY-FIREWALL");
  for (const char* builtin : {"INPUT", "OUTPUT"})
    neighbour.rules.push_back({"filter", builtin, "-j KUBE-FIREWALL"});
  for (const char* builtin : {"PREROUTING", "OUTPUT"})
    jump("nat", builtin, "", "service portals", "KUBE-SERVICES");
  jump("nat", "POSTROUTING", "", "postrouting rules", "KUBE-POSTROUTING");
  return neighbour;
}

Neighbour Portmap(uint16_t host_port, const std::string& to) {
  Neighbour neighbour{
      .name = "Portmap",
      .chains = fmt::format("*nat\n"
                            ":CNI-HOSTPORT-DNAT - [0:0]\n"
                            ":CNI-DN-ABCDEFGHIJKLMNOP - [0:0]\n"
                            "-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports {0} -j "
                            "CNI-DN-ABCDEFGHIJKLMNOP\n"
                            "-A CNI-DN-ABCDEFGHIJKLMNOP -p tcp -m tcp --dport {0} -j DNAT "
                            "--to-destination {1}\n"
                            "COMMIT\n",
                            host_port, to),
      .rules = {}};
  for (const char* builtin : {"PREROUTING", "OUTPUT"})
    neighbour.rules.push_back(
        {"nat", builtin, "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"});
  return neighbour;
}

Neighbour PortmapNft(net::Family family, uint16_t host_port, const std::string& to) {
  const char* ip = family == net::Family::kIPv4 ? "ip" : "ip6";
  return {
      .name = "PortmapNft",
      .chains = "",
      .rules = {},
      .nft = fmt::format(
          "table {0} cni_hostport {{\n"
          "  chain hostports {{ tcp dport {1} dnat to {2}; }}\n"
          "  chain prerouting {{ type nat hook prerouting priority dstnat; fib daddr type local "
          "jump hostports; }}\n"
          "  chain output {{ type nat hook output priority -100; fib daddr type local jump "
          "hostports; }}\n"
          "}}\n",
          ip, host_port, to),
      .nft_tables = {fmt::format("{} cni_hostport", ip)}};
}

Neighbour DockerPublished(net::Family family, uint16_t host_port, const std::string& to) {
  return {.name = "DockerPublished",
          .chains = fmt::format(
              "*nat\n"
              ":DOCKER - [0:0]\n"
              "-A DOCKER ! -i docker0 -p tcp -m tcp --dport {} -j DNAT --to-destination {}\n"
              "COMMIT\n",
              host_port, to),
          .rules = {{"nat", "PREROUTING", "-m addrtype --dst-type LOCAL -j DOCKER"},
                    {"nat", "OUTPUT",
                     fmt::format("! -d {} -m addrtype --dst-type LOCAL -j DOCKER",
                                 family == net::Family::kIPv4 ? "127.0.0.0/8" : "::1/128")}}};
}

}  // namespace pointsman::agent::testing
