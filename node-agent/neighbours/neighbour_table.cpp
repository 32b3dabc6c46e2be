#include "node-agent/neighbours/neighbour_table.h"

#include <stdexcept>

namespace pointsman::agent {
namespace {

// A policy engine lets the node itself reach its pods, else kubelet's probes would fail. In
// userspace mode every connection to a backend is the node's own.
constexpr Verdict kUserspaceBesidePolicy{
    Level::kRefused,
    "connections reach a backend from the node itself, which NetworkPolicy lets through: on the "
    "backend's node every ingress policy would be off, on another node the client is refused",
    "choose iptables, ipvs or nftables mode"};

constexpr Verdict kIpvsPastForward{
    Level::kRefused,
    "it polices forwarded packets only, and IPVS does not forward: no NetworkPolicy would hold for "
    "Service traffic",
    "choose iptables or nftables mode"};

constexpr Verdict kTwoProxies{
    Level::kWarning,
    "it serves Services itself: of two service proxies the one that a packet meets first decides",
    "let one of the two serve this node: its own switch, or another nodeSelector here"};
constexpr Verdict kTwoOwnersOfServices{
    Level::kRefused,
    "it serves Services itself, and cluster IPs that are local to the node are taken away from it",
    "let one of the two serve this node: its own switch, or another nodeSelector here"};

constexpr Verdict kOtherMark{
    Level::kWarning, "its rules know the mark 0x4000 by its number, and masqueradeBit is not 14",
    "set masqueradeBit to 14"};

constexpr Verdict kPublishedPorts{
    Level::kWarning,
    "while a handover between this mode and iptables mode is under way, a port that it publishes "
    "on "
    "the node from a table of its own takes the same port of every cluster IP, which are local "
    "then",
    "publish no port that Services have (80, 443), or move the node through nftables mode"};

constexpr Verdict kBridgeNf{
    Level::kWarning,
    "answers between pods of one bridge go past the address translation, so connections of a pod "
    "to a Service whose backend is on the same bridge hang",
    "load br_netfilter and set net.bridge.bridge-nf-call-iptables (for IPv6 "
    "net.bridge.bridge-nf-call-ip6tables) to 1"};

constexpr Verdict kStaleSets{
    Level::kWarning,
    "when kube-proxy is gone they stay as it left them, and others (Kube-OVN) go by them: Services "
    "made later are refused there",
    "kubeProxy.policy: TakeOver (kube-proxy-takeover.md), or pointsman-node-agent "
    "--cleanup-kube-proxy on that node"};

constexpr Verdict kForwardDrop{
    Level::kWarning,
    "what is sent to a Service is forwarded, and what another chain accepts is dropped in this one "
    "all the same, unless a rule of its own lets it by",
    "accept what comes from and goes to pods in that chain, or set its policy to accept"};

// clang-format off
const std::vector<Neighbour>& Table() {
  using enum SignKind;
  using enum NeighbourKind;
  static const std::vector<Neighbour> kTable = {
      {.name = "antrea",
       .title = "Antrea",
       .source = "antrea-io/antrea pkg/agent/route/route_linux.go, pkg/agent/openflow/pipeline.go",
       .kind = kPolicyEngine,
       .signs = {{kLink, "antrea-gw0"}, {kChain, "ANTREA-FORWARD", "filter"}},
       .userspace = kUserspaceBesidePolicy},
      {.name = "antrea-egress",
       .title = "Antrea Egress",
       .source = "antrea-io/antrea pkg/agent/ipassigner/ip_assigner_linux.go",
       .kind = kRouting,
       .signs = {{kLink, "antrea-egress0"}},
       .ipvs = {Level::kRefused,
                "strictARP sets arp_ignore, which antrea-agent reads only when it starts: until "
                "then nobody answers ARP for Egress IPs",
                "leave strictARP off, or accept this and restart antrea-agent after the change"},
       .counts_with = CountsWith::kStrictArp},
      {.name = "antrea-proxy-all",
       .title = "Antrea with proxyAll",
       .source = "antrea-io/antrea pkg/agent/route/route_linux.go, docs/antrea-network-policy.md",
       .kind = kServiceProxy,
       .signs = {{kChain, "ANTREA-PREROUTING", "nat"}},
       .userspace = kTwoOwnersOfServices,
       .iptables = kTwoProxies,
       .ipvs = kTwoOwnersOfServices,
       .nftables = {Level::kWarning,
                    "it serves Services itself, and nftables mode comes before it: Antrea policies "
                    "of node ports (appliedTo a Service) are passed by",
                    "let one of the two serve this node, or choose iptables mode"}},
      {.name = "aws-pod-eni",
       .title = "AWS security groups for pods",
       .source = "aws/amazon-vpc-cni-k8s README.md (POD_SECURITY_GROUP_ENFORCING_MODE)",
       .kind = kNetworkPlugin,
       .signs = {{kLink, "vlan.eth*"}},
       .ipvs = {Level::kRefused,
                "routing by the interface that a packet came from does not see what IPVS sends on: "
                "such pods' packets leave by the wrong interface and are dropped",
                "set POD_SECURITY_GROUP_ENFORCING_MODE=standard and accept this, or choose "
                "iptables or nftables mode"}},
      {.name = "aws-vpc-cni",
       .title = "AWS VPC CNI",
       .source = "aws/amazon-vpc-cni-k8s pkg/networkutils; aws/aws-network-policy-agent pkg/fwruleprocessor",
       .kind = kNetworkPlugin,
       .signs = {{kChain, "AWS-SNAT-CHAIN-0", "nat"}, {kNftTable, "aws-cni"}},
       .userspace = {Level::kWarning,
                     "the network policy agent, if it runs, lets the node itself through: ingress "
                     "policies would not hold",
                     "choose another mode where NetworkPolicy is used"}},
      {.name = "azure-cni-bridge",
       .title = "Azure CNI in bridge mode",
       .source = "Azure/azure-container-networking issue 447",
       .kind = kNetworkPlugin,
       .signs = {{kLink, "azure0"}},
       .ipvs = {Level::kRefused,
                "IPVS does not take the frames whose MAC address the bridge rewrites: pods would "
                "reach no Service",
                "choose iptables or nftables mode"}},
      {.name = "azure-npm",
       .title = "Azure Network Policy Manager",
       .source = "Azure/azure-container-networking npm/pkg/dataplane/policies/chain-management_linux.go",
       .kind = kPolicyEngine,
       .signs = {{kChain, "AZURE-NPM", "filter"}},
       .userspace = kUserspaceBesidePolicy,
       .ipvs = kIpvsPastForward},
      {.name = "bridge-nf-call",
       .title = "a bridge of pods that iptables does not see",
       .source = "Documentation/networking/ip-sysctl.rst, bridge-nf-call-iptables",
       .kind = kKernelSetting,
       .signs = {{kUnfilteredBridge, "cni*"}, {kUnfilteredBridge, "cbr0"},
                 {kUnfilteredBridge, "kube-bridge"}, {kUnfilteredBridge, "weave"}},
       .iptables = kBridgeNf,
       .ipvs = kBridgeNf,
       .nftables = kBridgeNf},
      {.name = "calico",
       .title = "Calico's Felix",
       .source = "projectcalico/calico felix/dataplane/driver.go, felix/rules/static.go",
       .kind = kPolicyEngine,
       .signs = {{kChain, "cali-FORWARD", "filter"}, {kNftTable, "calico"}},
       // ipvs: ipvs_notice.h
       .userspace = kUserspaceBesidePolicy},
      {.name = "calico-ebpf",
       .title = "Calico's eBPF dataplane",
       .source = "projectcalico/calico felix/dataplane/linux/dataplanedefs/dataplane_defs.go",
       .kind = kServiceProxy,
       .signs = {{kLink, "bpfin.cali"}},
       .userspace = kTwoOwnersOfServices,
       .iptables = kTwoProxies,
       .ipvs = kTwoOwnersOfServices,
       .nftables = kTwoProxies},
      {.name = "cilium",
       .title = "Cilium",
       .source = "cilium/cilium pkg/datapath/iptables/iptables.go (installHostTrafficMarkRule)",
       .kind = kPolicyEngine,
       .signs = {{kLink, "cilium_host"}},
       .userspace = kUserspaceBesidePolicy,
       .ipvs = {Level::kRefused,
                "what IPVS sends on passes OUTPUT and is marked there as the node's own: to "
                "Cilium, node port and load balancer traffic from outside comes from the host, "
                "which policies let through",
                "choose iptables or nftables mode, or accept this where no policy is to hold for it"}},
      {.name = "cni-hostport-nft",
       .title = "CNI portmap with nftables",
       .source = "containernetworking/plugins plugins/meta/portmap/portmap_nftables.go",
       .kind = kNetworkPlugin,
       .signs = {{kNftTable, "cni_hostport"}},
       .ipvs = kPublishedPorts},
      {.name = "docker",
       .title = "Docker with nftables",
       .source = "moby/moby daemon/libnetwork/drivers/bridge",
       .kind = kContainerRuntime,
       .signs = {{kNftTable, "docker-bridges"}},
       .ipvs = kPublishedPorts},
      {.name = "firewalld",
       .title = "firewalld with nftables",
       .source = "firewalld/firewalld src/firewall/core/nftables.py",
       .kind = kFirewall,
       .signs = {{kNftTable, "firewalld"}},
       .ipvs = {Level::kRefused,
                "it lets translated connections through, and judges what a pod sends to a cluster "
                "IP by IPVS as if it were meant for the node: pods would reach no Service",
                "set FirewallBackend=iptables, or put the pods' interfaces or addresses into the "
                "zone trusted and accept this, or choose iptables or nftables mode"}},
      {.name = "flannel",
       .title = "flannel",
       .source = "flannel-io/flannel pkg/trafficmngr",
       .kind = kNetworkPlugin,
       .signs = {{kChain, "FLANNEL-FWD", "filter"}, {kNftTable, "flannel-ipv4"},
                 {kNftTable, "flannel-ipv6"}}},
      {.name = "forward-policy-drop",
       .title = "a chain of nf_tables that drops what is forwarded",
       .source = "nftables wiki, Simple ruleset for a server; nf_hook_slow() in net/netfilter/core.c",
       .kind = kFirewall,
       .signs = {{kForwardPolicyDrop, "*"}},
       .iptables = kForwardDrop,
       .nftables = kForwardDrop},
      {.name = "istio-ambient",
       .title = "Istio in ambient mode",
       .source = "istio/istio cni/pkg/iptables/iptables.go",
       .kind = kServiceMesh,
       .signs = {{kIpset, "istio-inpod-probes-v4"}, {kChain, "ISTIO_POSTRT", "nat"}},
       .userspace = {Level::kRefused,
                     "connections reach a pod from a process of the node, which Istio takes for "
                     "kubelet's probes and lets past ztunnel: mutual TLS and AuthorizationPolicy "
                     "would not hold",
                     "choose iptables, ipvs or nftables mode"}},
      {.name = "keepalived-or-kube-vip",
       .title = "another owner of IPVS (keepalived, kube-vip)",
       .source = "acassen/keepalived check_daemon.c; kube-vip/kube-vip pkg/loadbalancer",
       .kind = kLoadBalancer,
       .signs = {{kIpvsByMark, "*"}},
       .ipvs = {Level::kWarning,
                "the kernel's IPVS parameters (net.ipv4.vs.*) are the same for both, and stay as "
                "this mode sets them; a keepalived with lvs_flush takes our virtual servers out "
                "when it starts",
                "set lvs_flush off, and see docs/ipvs.md for the parameters"}},
      {.name = "kube-network-policies",
       .title = "kube-network-policies",
       .source = "kubernetes-sigs/kube-network-policies pkg/dataplane/controller.go; kindnet",
       .kind = kPolicyEngine,
       .signs = {{kNftTable, "kube-network-policies"}, {kNftTable, "kindnet-network-policies"}},
       .userspace = kUserspaceBesidePolicy,
       .ipvs = {Level::kRefused,
                "with its netfilter-bug-1766-fix, which is on by default, DNS over UDP is judged "
                "by the cluster IP: policies that allow pods by selector drop it",
                "start it with --netfilter-bug-1766-fix=false and accept this, or choose another mode"}},
      {.name = "kube-ovn",
       .title = "Kube-OVN",
       .source = "kubeovn/kube-ovn pkg/daemon/gateway_linux.go",
       .kind = kPolicyEngine,
       .signs = {{kLink, "ovn0"}, {kIpset, "ovn40services"}},
       .userspace = kUserspaceBesidePolicy},
      {.name = "kube-proxy-nftables",
       .title = "kube-proxy in nftables mode, or what it left",
       .source = "kubernetes pkg/proxy/nftables/proxier.go (cluster-ips-check)",
       .kind = kServiceProxy,
       .signs = {{kNftTable, "kube-proxy"}},
       .ipvs = {Level::kRefused,
                "it refuses what the node itself sends to a cluster IP and kube-proxy has not "
                "translated, as IPVS does not",
                "move to nftables or iptables mode first, and take kube-proxy off with "
                "kubeProxy.policy: TakeOver, or stop it and run pointsman-node-agent "
                "--cleanup-kube-proxy on the node"}},
      {.name = "kube-router",
       .title = "kube-router's network policies",
       .source = "cloudnativelabs/kube-router pkg/controllers/netpol",
       .kind = kPolicyEngine,
       .signs = {{kChain, "KUBE-ROUTER-FORWARD", "filter"},
                 {kNftTable, "kube-router-filter-ipv4"},
                 {kNftTable, "kube-router-filter-ipv6"}},
       .userspace = kUserspaceBesidePolicy,
       .ipvs = {Level::kWarning,
                "load balancer and external IPs reach its INPUT rules as addresses of 244.0.0.0/6, "
                "which it does not know as Services': pods with an egress policy are refused there",
                "allow them by port, or choose iptables or nftables mode"}},
      {.name = "kube-router-service-proxy",
       .title = "kube-router's service proxy",
       .source = "cloudnativelabs/kube-router pkg/controllers/proxy",
       .kind = kServiceProxy,
       .signs = {{kLink, "kube-dummy-if"}},
       .userspace = kTwoOwnersOfServices,
       .iptables = kTwoProxies,
       .ipvs = {Level::kRefused,
                "it is an owner of the kernel's IPVS too, and takes out what it did not make",
                "start kube-router with --run-service-proxy=false"},
       .nftables = kTwoProxies},
      {.name = "masquerade-mark",
       .title = "rules of others that know the masquerade mark",
       .source = "flannel trafficmngr.go (0x4000), cilium iptables.go, kube-ovn gateway_linux.go",
       .kind = kKernelSetting,
       .signs = {{kLink, "cilium_host"}, {kLink, "ovn0"}, {kChain, "FLANNEL-POSTRTG", "nat"},
                 {kNftTable, "flannel-ipv4"}},
       .userspace = kOtherMark,
       .iptables = kOtherMark,
       .ipvs = kOtherMark,
       .nftables = kOtherMark,
       .counts_with = CountsWith::kOtherMasqueradeMark},
      {.name = "nodelocaldns",
       .title = "NodeLocal DNSCache that listens on a cluster IP",
       .source = "kubernetes/dns cmd/node-cache/app/cache_app.go",
       .kind = kDnsCache,
       .signs = {{kLinkAddress, "nodelocaldns"}}},
      {.name = "ovn-kubernetes",
       .title = "OVN-Kubernetes",
       .source = "ovn-org/ovn-kubernetes docs/design/masquerade-ips.md",
       .kind = kServiceProxy,
       .signs = {{kLink, "ovn-k8s-mp0"}},
       .userspace = kTwoOwnersOfServices,
       .iptables = kTwoProxies,
       .ipvs = {Level::kRefused,
                "it serves Services itself, and its masquerade network 169.254.0.0/17 contains "
                "169.254.112.1, by which ipvs mode serves node ports",
                "let OVN-Kubernetes serve this node: another nodeSelector here"},
       .nftables = kTwoProxies},
      {.name = "routing-rule-iif",
       .title = "routing by the interface that a packet came from",
       .source = "ip-rule(8)",
       .kind = kRouting,
       .signs = {{kRuleIif, "*"}},
       .ipvs = {Level::kRefused,
                "what IPVS sends on is routed as the node's own: the rule does not match, and such "
                "packets leave by another interface",
                "select by source address instead (ip rule from …), or choose iptables or nftables "
                "mode"}},
      {.name = "stale-kube-proxy-sets",
       .title = "ipsets of kube-proxy's ipvs mode",
       .source = "kubeovn/kube-ovn pkg/daemon/gateway_linux.go; kubernetes pkg/proxy/ipvs/ipset.go",
       .kind = kServiceProxy,
       .signs = {{kIpset, "KUBE-CLUSTER-IP"}, {kIpset, "KUBE-NODE-PORT-TCP"}},
       .userspace = kStaleSets,
       .iptables = kStaleSets,
       .ipvs = kStaleSets,
       .nftables = kStaleSets},
      {.name = "vrf",
       .title = "virtual routing (VRF)",
       .source = "Documentation/networking/vrf.rst",
       .kind = kRouting,
       .signs = {{kLinkKind, "vrf"}},
       .ipvs = {Level::kRefused,
                "clients in a VRF reach cluster IPs, and the answers are routed by the main table",
                "choose iptables or nftables mode, or accept this where no client is in a VRF"}},
      {.name = "weave-npc",
       .title = "Weave Net's policy controller",
       .source = "weaveworks/weave npc",
       .kind = kPolicyEngine,
       .signs = {{kChain, "WEAVE-NPC", "filter"}},
       .userspace = kUserspaceBesidePolicy,
       .ipvs = kIpvsPastForward},
  };
  return kTable;
}
// clang-format on

}  // namespace

std::string_view ToString(NeighbourKind kind) {
  switch (kind) {
    case NeighbourKind::kNetworkPlugin:
      return "NetworkPlugin";
    case NeighbourKind::kPolicyEngine:
      return "PolicyEngine";
    case NeighbourKind::kServiceProxy:
      return "ServiceProxy";
    case NeighbourKind::kServiceMesh:
      return "ServiceMesh";
    case NeighbourKind::kFirewall:
      return "Firewall";
    case NeighbourKind::kDnsCache:
      return "DNSCache";
    case NeighbourKind::kContainerRuntime:
      return "ContainerRuntime";
    case NeighbourKind::kLoadBalancer:
      return "LoadBalancer";
    case NeighbourKind::kRouting:
      return "Routing";
    case NeighbourKind::kKernelSetting:
      return "KernelSetting";
  }
  return "";
}

const Verdict& Neighbour::Of(kube::Mode mode) const {
  switch (mode) {
    case kube::Mode::kUserspace:
      return userspace;
    case kube::Mode::kIptables:
      return iptables;
    case kube::Mode::kIpvs:
      return ipvs;
    case kube::Mode::kNftables:
      return nftables;
  }
  throw std::logic_error("a mode that there is not");
}

std::span<const Neighbour> Neighbours() {
  return Table();
}

std::vector<SignPattern> PatternsOf(std::span<const Neighbour> neighbours) {
  std::vector<SignPattern> patterns;
  for (const Neighbour& neighbour : neighbours)
    patterns.insert(patterns.end(), neighbour.signs.begin(), neighbour.signs.end());
  return patterns;
}

}  // namespace pointsman::agent
