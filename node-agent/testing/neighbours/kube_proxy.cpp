#include "node-agent/testing/neighbours/kube_proxy.h"

#include <set>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::testing {
namespace {

std::string IpOf(const std::string& endpoint) {
  return endpoint.substr(0, endpoint.find(':'));
}
std::string PortOf(const std::string& endpoint) {
  return endpoint.substr(endpoint.find(':') + 1);
}

// As many characters as kube-proxy takes of a hash in base 32.
std::string Hash(const std::string& of, size_t characters) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  uint64_t hash = 1469598103934665603ULL;  // FNV-1a
  const auto add = [&](unsigned char c) { hash = (hash ^ c) * 1099511628211ULL; };
  for (const char c : of)
    add(static_cast<unsigned char>(c));
  std::string text;
  while (text.size() < characters) {
    text += kAlphabet[hash >> 59];
    add(1);
  }
  return text;
}

std::string PortName(const ProxiedService& service) {
  return service.name + ":" + service.port_name + "/" + service.protocol;
}
std::string ChainOf(const char* prefix, const std::string& of) {
  return prefix + Hash(of, 16);
}

constexpr const char* kFilterOfIptables =
    "*filter\n"
    ":KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-FIREWALL - [0:0]\n:KUBE-FORWARD - [0:0]\n"
    ":KUBE-NODEPORTS - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n:KUBE-SERVICES - [0:0]\n"
    "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate "
    "RELATED,ESTABLISHED,DNAT -j DROP\n"
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n"
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n"
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    "COMMIT\n";

// Declares its chains in `heads` and puts its rules into `rules`.
void AddIptables(const ProxiedService& service, std::string& heads, std::string& rules) {
  const std::string name = PortName(service);
  const std::string chain = ChainOf("KUBE-SVC-", name);
  const std::string match = fmt::format("-d {0}/32 -p {1} -m {1} --dport {2}", service.cluster_ip,
                                        service.protocol, service.port);
  heads += fmt::format(":{} - [0:0]\n", chain);
  rules += fmt::format("-A KUBE-SERVICES {} -j {}\n", match, chain);
  if (!service.cluster_cidr.empty())
    rules +=
        fmt::format("-A {} ! -s {} {} -j KUBE-MARK-MASQ\n", chain, service.cluster_cidr, match);
  if (service.node_port != 0) {
    const std::string external = ChainOf("KUBE-EXT-", name);
    heads += fmt::format(":{} - [0:0]\n", external);
    rules += fmt::format(
        "-A KUBE-NODEPORTS -p {0} -m {0} --dport {1} -j {2}\n"
        "-A {2} -j KUBE-MARK-MASQ\n-A {2} -j {3}\n",
        service.protocol, service.node_port, external, chain);
  }
  for (size_t i = 0; i < service.endpoints.size(); ++i) {
    const std::string& endpoint = service.endpoints[i];
    const std::string to = ChainOf("KUBE-SEP-", name + endpoint);
    const size_t left = service.endpoints.size() - i;
    heads += fmt::format(":{} - [0:0]\n", to);
    rules += fmt::format(
        "-A {0} {1}-j {2}\n"
        "-A {2} -s {3}/32 -j KUBE-MARK-MASQ\n"
        "-A {2} -p {4} -m {4} -j DNAT --to-destination {5}\n",
        chain,
        left == 1 ? ""
                  : fmt::format("-m statistic --mode random --probability {:.11f} ",
                                1.0 / static_cast<double>(left)),
        to, IpOf(endpoint), service.protocol, endpoint);
  }
}

constexpr const char* kChainsOfIpvs =
    "*nat\n"
    ":KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-NODE-PORT - [0:0]\n"
    ":KUBE-LOAD-BALANCER - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n"
    "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
    "-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN\n"
    "-A KUBE-SERVICES -m comment --comment \"Kubernetes service cluster ip + port for masquerade "
    "purpose\" -m set --match-set KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ\n"
    "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT\n"
    "-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\n"
    "-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ\n"
    "-A KUBE-NODE-PORT -p udp -m set --match-set KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ\n"
    "-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE\n"
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n"
    "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n"
    "-A KUBE-POSTROUTING -j MASQUERADE\n"
    "COMMIT\n"
    "*filter\n"
    ":KUBE-FORWARD - [0:0]\n:KUBE-NODE-PORT - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n"
    ":KUBE-IPVS-FILTER - [0:0]\n"
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n"
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    "-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN\n"
    "-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j "
    "REJECT --reject-with icmp-port-unreachable\n"
    "COMMIT\n";

Neighbour ChainsOfIpvs() {
  Neighbour neighbour{.name = "KubeProxyIpvs", .chains = kChainsOfIpvs, .rules = {}};
  const auto jump = [&](const char* table, const char* builtin, const char* comment,
                        const char* chain) {
    neighbour.rules.push_back(
        {table, builtin, fmt::format("-m comment --comment \"{}\" -j {}", comment, chain)});
  };
  for (const char* builtin : {"PREROUTING", "OUTPUT"})
    jump("nat", builtin, "kubernetes service portals", "KUBE-SERVICES");
  jump("nat", "POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING");
  jump("filter", "INPUT", "kubernetes health check rules", "KUBE-NODE-PORT");
  for (const char* builtin : {"INPUT", "FORWARD"})
    jump("filter", builtin, "kube-proxy firewall rules", "KUBE-PROXY-FIREWALL");
  jump("filter", "INPUT", "kubernetes ipvs access filter", "KUBE-IPVS-FILTER");
  jump("filter", "FORWARD", "kubernetes forwarding rules", "KUBE-FORWARD");
  return neighbour;
}

// Lines for a tool that reads them all at once: a process for each would take a slow kernel long.
void Feed(const std::string& tool, const std::string& lines) {
  if (!lines.empty()) RunTool({"sh", "-c", "printf %s \"$1\" | " + tool, "sh", lines});
}

// Those of ipvsadm's lines that are not in effect yet.
void MakeServers(const std::vector<ProxiedService>& services) {
  std::vector<std::string> wanted;
  const auto add = [&](const ProxiedService& service, const std::string& place) {
    const char* const option = service.protocol == "udp" ? "-u" : "-t";
    wanted.push_back(fmt::format("-A {} {} -s rr", option, place));
    for (const std::string& endpoint : service.endpoints)
      wanted.push_back(fmt::format("-a {} {} -r {} -m -w 1", option, place, endpoint));
  };
  for (const ProxiedService& service : services) {
    add(service, fmt::format("{}:{}", service.cluster_ip, service.port));
    if (service.node_port != 0)
      add(service, fmt::format("{}:{}", service.node_ip, service.node_port));
  }
  std::istringstream saved(RunTool({"ipvsadm", "-Sn"}));
  std::set<std::string> present;
  for (std::string line; std::getline(saved, line);)
    present.insert(line);
  std::string missing;
  for (const std::string& line : wanted) {
    if (!present.contains(line)) missing += line + "\n";
  }
  Feed("ipvsadm -R", missing);
}

void MakeIpsets(const std::vector<ProxiedService>& services) {
  std::string lines =
      "create KUBE-CLUSTER-IP hash:ip,port\ncreate KUBE-IPVS-IPS hash:ip\n"
      "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\n"
      "create KUBE-NODE-PORT-UDP bitmap:port range 0-65535\n"
      "create KUBE-LOOP-BACK hash:ip,port,ip\n";
  const auto add = [&](const std::string& set, const std::string& entry) {
    lines += fmt::format("add {} {}\n", set, entry);
  };
  for (const ProxiedService& service : services) {
    add("KUBE-CLUSTER-IP",
        fmt::format("{},{}:{}", service.cluster_ip, service.protocol, service.port));
    add("KUBE-IPVS-IPS", service.cluster_ip);
    if (service.node_port != 0)
      add(service.protocol == "udp" ? "KUBE-NODE-PORT-UDP" : "KUBE-NODE-PORT-TCP",
          std::to_string(service.node_port));
    for (const std::string& endpoint : service.endpoints)
      add("KUBE-LOOP-BACK",
          fmt::format("{0},{1}:{2},{0}", IpOf(endpoint), service.protocol, PortOf(endpoint)));
  }
  Feed("ipset -exist restore", lines);
}

// The chains and elements of one Service in table "ip kube-proxy".
struct NftText {
  std::string chains;
  std::set<std::string> cluster_ips, node_ips, service_ips, node_ports;
};

void AddNftables(const ProxiedService& service, NftText& text) {
  const std::string name =
      fmt::format("{}/{}/{}", service.name, service.protocol, service.port_name);
  const std::string chain = fmt::format("service-{}-{}", Hash(name, 8), name);
  std::string choices;
  for (size_t i = 0; i < service.endpoints.size(); ++i) {
    const std::string& endpoint = service.endpoints[i];
    choices += fmt::format("{}{} : ", i == 0 ? "" : ", ", i);
    if (!service.endpoint_chains) {
      choices += fmt::format("{} . {}", IpOf(endpoint), PortOf(endpoint));
      continue;
    }
    const std::string to = fmt::format("endpoint-{}-{}__{}/{}", Hash(name + endpoint, 8), name,
                                       IpOf(endpoint), PortOf(endpoint));
    text.chains += fmt::format(
        "chain {} {{ ip saddr {} jump mark-for-masquerade; meta l4proto {} dnat to {}; }}\n", to,
        IpOf(endpoint), service.protocol, endpoint);
    choices += fmt::format("goto {}", to);
  }
  const std::string from_outside =
      service.cluster_cidr.empty()
          ? ""
          : fmt::format("ip daddr {} {} dport {} ip saddr != {} jump mark-for-masquerade; ",
                        service.cluster_ip, service.protocol, service.port, service.cluster_cidr);
  const std::string random = fmt::format("numgen random mod {}", service.endpoints.size());
  const std::string choice =
      service.endpoint_chains
          ? fmt::format("{} vmap {{ {} }}", random, choices)
          : fmt::format("meta l4proto {} dnat ip addr . port to {} map {{ {} }}", service.protocol,
                        random, choices);
  text.chains += fmt::format("chain {} {{ {}{}; }}\n", chain, from_outside, choice);
  text.cluster_ips.insert(service.cluster_ip);
  text.service_ips.insert(fmt::format("{} . {} . {} : goto {}", service.cluster_ip,
                                      service.protocol, service.port, chain));
  if (service.node_port == 0) return;
  const std::string external = fmt::format("external-{}-{}", Hash(name, 8), name);
  text.chains +=
      fmt::format("chain {} {{ jump mark-for-masquerade; goto {}; }}\n", external, chain);
  text.node_ips.insert(service.node_ip);
  text.node_ports.insert(
      fmt::format("{} . {} : goto {}", service.protocol, service.node_port, external));
}

std::string Elements(const std::set<std::string>& elements) {
  std::string text;
  for (const std::string& element : elements)
    text += (text.empty() ? "elements = { " : ", ") + element;
  return text.empty() ? "" : text + " };";
}

// What the kubelet makes too, and others jump to, stays.
bool IsOwnChain(std::string_view table, std::string_view chain) {
  static const std::set<std::string_view> kOthers{"KUBE-MARK-MASQ", "KUBE-MARK-DROP",
                                                  "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"};
  return chain.starts_with("KUBE-") && !kOthers.contains(chain) &&
         !(table == "filter" && chain == "KUBE-FIREWALL");
}

// What empties and removes the chains in `table`, with the jumps to them; "": there are none.
std::string RemovalOf(xtables::IptablesTool& tool, const std::string& table) {
  std::string jumps;
  std::string heads;
  std::string removals;
  tool.SaveLines(table, [&](std::string_view text) {
    const xtables::SavedLine line = xtables::ParseSavedLine(text);
    const bool own = IsOwnChain(table, line.name);
    if (line.kind == xtables::SavedLine::Kind::kChain && own) {
      heads += fmt::format(":{} - [0:0]\n", line.name);
      removals += fmt::format("-X {}\n", line.name);
    }
    if (line.kind != xtables::SavedLine::Kind::kRule || own) return;
    const size_t target = line.rule.rfind("-j ");
    if (target != line.rule.npos && IsOwnChain(table, line.rule.substr(target + 3)))
      jumps += fmt::format("-D {} {}\n", line.name, line.rule);
  });
  return heads.empty() ? "" : fmt::format("*{}\n{}{}{}COMMIT\n", table, heads, jumps, removals);
}

}  // namespace

Neighbour KubeProxyIptables(const std::vector<ProxiedService>& services) {
  std::string heads;
  std::string rules;
  for (const ProxiedService& service : services)
    AddIptables(service, heads, rules);
  // The jumps to its main chains are those of every kube-proxy.
  Neighbour neighbour = KubeProxy("", 0, "");
  neighbour.chains =
      kFilterOfIptables + fmt::format(
                              "*nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-NODEPORTS - [0:0]\n"
                              ":KUBE-POSTROUTING - [0:0]\n:KUBE-SERVICES - [0:0]\n{}"
                              "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
                              "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n"
                              "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n"
                              "-A KUBE-POSTROUTING -j MASQUERADE\n{}"
                              "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n"
                              "COMMIT\n",
                              heads, rules);
  return neighbour;
}

void MakeKubeProxyIpvs(const std::vector<ProxiedService>& services) {
  RunTool({"sysctl", "-qw", "net.ipv4.vs.conntrack=1", "net.ipv4.vs.expire_nodest_conn=1",
           "net.ipv4.vs.expire_quiescent_template=1"});
  if (TryTool({"ip", "link", "show", "kube-ipvs0"}) != 0)
    RunTool({"ip", "link", "add", "kube-ipvs0", "type", "dummy"});
  MakeServers(services);
  for (const ProxiedService& service : services)
    RunTool({"ip", "address", "replace", service.cluster_ip + "/32", "dev", "kube-ipvs0"});
  MakeIpsets(services);
  xtables::IptablesTool tool(net::Family::kIPv4, "legacy");
  ChainsOfIpvs().Sync(tool);
}

void MakeKubeProxyNftables(const std::vector<ProxiedService>& services) {
  NftText text;
  for (const ProxiedService& service : services)
    AddNftables(service, text);
  RunTool({"nft", fmt::format(R"(add table ip kube-proxy; delete table ip kube-proxy
table ip kube-proxy {{
  comment "rules for kube-proxy"
  set cluster-ips {{ type ipv4_addr; {0} }}
  set nodeport-ips {{ type ipv4_addr; {1} }}
  chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
  chain masquerading {{
    meta mark and 0x4000 == 0 return;
    meta mark set meta mark xor 0x4000;
    masquerade fully-random;
  }}
  {2}
  map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; {3} }}
  map service-nodeports {{ type inet_proto . inet_service : verdict; {4} }}
  chain services {{
    ip daddr . meta l4proto . th dport vmap @service-ips;
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports;
  }}
  chain cluster-ips-check {{ ip daddr @cluster-ips reject; }}
  chain filter-forward {{
    type filter hook forward priority 0;
    ct state new jump cluster-ips-check;
  }}
  chain filter-output {{
    type filter hook output priority 0;
    ct state new jump cluster-ips-check;
  }}
  chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
}})",
                              Elements(text.cluster_ips), Elements(text.node_ips), text.chains,
                              Elements(text.service_ips), Elements(text.node_ports))});
}

void RemoveKubeProxyIptablesAndIpvs() {
  xtables::IptablesTool tool(net::Family::kIPv4);
  for (const char* table : {"nat", "filter"}) {
    if (const std::string removal = RemovalOf(tool, table); !removal.empty()) tool.Restore(removal);
  }
  if (TryTool({"ip", "link", "show", "kube-ipvs0"}) != 0) return;
  RunTool({"ipvsadm", "-C"});
  RunTool({"ip", "link", "del", "kube-ipvs0"});
  std::istringstream sets(RunTool({"ipset", "list", "-n"}));
  for (std::string set; std::getline(sets, set);) {
    if (set.starts_with("KUBE-")) RunTool({"ipset", "destroy", set});
  }
}

void RemoveKubeProxyNftables() {
  for (const char* family : {"ip", "ip6"}) {
    const std::string table = fmt::format("{} kube-proxy", family);
    if (TryTool({"nft", "list table " + table}) == 0) RunTool({"nft", "delete table " + table});
  }
}

}  // namespace pointsman::agent::testing
