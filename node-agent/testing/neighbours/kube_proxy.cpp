#include "node-agent/testing/neighbours/kube_proxy.h"

#include <fmt/format.h>

#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {
namespace {

constexpr const char* kChains =
    "*nat\n"
    ":KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-NODE-PORT - [0:0]\n"
    ":KUBE-LOAD-BALANCER - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n"
    "-I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n"
    "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
    "-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN\n"
    "-A KUBE-SERVICES -m comment --comment \"Kubernetes service cluster ip + port for masquerade "
    "purpose\" -m set --match-set KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ\n"
    "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT\n"
    "-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\n"
    "-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ\n"
    "-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE\n"
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n"
    "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n"
    "-A KUBE-POSTROUTING -j MASQUERADE\n"
    "COMMIT\n"
    "*filter\n"
    ":KUBE-FORWARD - [0:0]\n:KUBE-NODE-PORT - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n"
    ":KUBE-IPVS-FILTER - [0:0]\n"
    "-I INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER\n"
    "-I INPUT -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL\n"
    "-I INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT\n"
    "-I FORWARD -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL\n"
    "-I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n"
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n"
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    "-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN\n"
    "-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j "
    "REJECT --reject-with icmp-port-unreachable\n"
    "COMMIT\n";

void MakeServer(const std::string& place, const std::vector<std::string>& endpoints) {
  RunTool({"ipvsadm", "-A", "-t", place, "-s", "rr"});
  for (const std::string& endpoint : endpoints)
    RunTool({"ipvsadm", "-a", "-t", place, "-r", endpoint, "-m"});
}

}  // namespace

void MakeKubeProxyIpvs(const ProxiedService& service) {
  RunTool({"sysctl", "-qw", "net.ipv4.vs.conntrack=1", "net.ipv4.vs.expire_nodest_conn=1",
           "net.ipv4.vs.expire_quiescent_template=1"});
  RunTool({"ip", "link", "add", "kube-ipvs0", "type", "dummy"});
  RunTool({"ip", "address", "add", service.cluster_ip + "/32", "dev", "kube-ipvs0"});
  MakeServer(fmt::format("{}:{}", service.cluster_ip, service.port), service.endpoints);
  MakeServer(fmt::format("{}:{}", service.node_ip, service.node_port), service.endpoints);
  RunTool({"ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"});
  RunTool({"ipset", "add", "KUBE-CLUSTER-IP",
           fmt::format("{},tcp:{}", service.cluster_ip, service.port)});
  RunTool({"ipset", "create", "KUBE-IPVS-IPS", "hash:ip"});
  RunTool({"ipset", "add", "KUBE-IPVS-IPS", service.cluster_ip});
  RunTool({"ipset", "create", "KUBE-NODE-PORT-TCP", "bitmap:port", "range", "0-65535"});
  RunTool({"ipset", "add", "KUBE-NODE-PORT-TCP", std::to_string(service.node_port)});
  RunTool({"ipset", "create", "KUBE-LOOP-BACK", "hash:ip,port,ip"});
  xtables::IptablesTool(net::Family::kIPv4, "legacy").Restore(kChains);
}

void MakeKubeProxyNftables(const ProxiedService& service) {
  std::string endpoints;
  std::string choices;
  for (size_t i = 0; i < service.endpoints.size(); ++i) {
    const std::string& endpoint = service.endpoints[i];
    const std::string ip = endpoint.substr(0, endpoint.find(':'));
    const std::string chain = fmt::format("endpoint-5OJB2KTY-default/web/tcp/http__{}/{}", ip,
                                          endpoint.substr(endpoint.find(':') + 1));
    endpoints += fmt::format(
        "chain {0} {{ ip saddr {1} jump mark-for-masquerade; "
        "meta l4proto tcp dnat to {2}; }}\n",
        chain, ip, endpoint);
    choices += fmt::format("{}{} : goto {}", i == 0 ? "" : ", ", i, chain);
  }
  RunTool({"nft", fmt::format(R"(table ip kube-proxy {{
  comment "rules for kube-proxy"
  set cluster-ips {{ type ipv4_addr; elements = {{ {0} }}; }}
  set nodeport-ips {{ type ipv4_addr; elements = {{ {1} }}; }}
  chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
  chain masquerading {{
    meta mark and 0x4000 == 0 return;
    meta mark set meta mark xor 0x4000;
    masquerade fully-random;
  }}
  {6}
  chain service-ULMVA6XW-default/web/tcp/http {{
    ip daddr {0} tcp dport {2} ip saddr != {4} jump mark-for-masquerade;
    numgen random mod {5} vmap {{ {7} }};
  }}
  chain external-ULMVA6XW-default/web/tcp/http {{
    jump mark-for-masquerade;
    goto service-ULMVA6XW-default/web/tcp/http;
  }}
  map service-ips {{
    type ipv4_addr . inet_proto . inet_service : verdict;
    elements = {{ {0} . tcp . {2} : goto service-ULMVA6XW-default/web/tcp/http }};
  }}
  map service-nodeports {{
    type inet_proto . inet_service : verdict;
    elements = {{ tcp . {3} : goto external-ULMVA6XW-default/web/tcp/http }};
  }}
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
                              service.cluster_ip, service.node_ip, service.port, service.node_port,
                              service.cluster_cidr, service.endpoints.size(), endpoints, choices)});
}

}  // namespace pointsman::agent::testing
