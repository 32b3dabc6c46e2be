#include "node-agent/testing/neighbours/catalogue.h"

#include <algorithm>

#include "node-agent/testing/neighbours/firewalls.h"
#include "node-agent/testing/neighbours/plugins.h"
#include "node-agent/testing/neighbours/proxies.h"

namespace pointsman::agent::testing {
namespace {

using Json = nlohmann::json;

Json ToJson(const std::optional<std::vector<std::string>>& list) {
  return list ? Json(*list) : Json();
}

std::optional<std::vector<std::string>> ListOrNothing(const Json& value) {
  if (value.is_null()) return std::nullopt;
  return value.get<std::vector<std::string>>();
}

// Docker's daemon sets FORWARD's policy to DROP; pods' traffic is accepted by the network plugin.
Neighbour DockerBesideFlannel(const NeighbourSite& site) {
  Neighbour all = DockerUser(site.family == net::Family::kIPv4 ? "192.0.2.66" : "2001:db8::66");
  const Neighbour published = DockerPublished(site.family, site.host_port, site.host_port_to);
  const Neighbour flannel = Flannel(site.family, site.pods, site.node_pods);
  for (const Neighbour* other : {&published, &flannel}) {
    all.chains += other->chains;
    all.rules.insert(all.rules.end(), other->rules.begin(), other->rules.end());
  }
  all.name = "DockerBesideFlannel";
  all.drops = {"FORWARD"};
  return all;
}

}  // namespace

void to_json(Json& json, const NeighbourSite& site) {
  json = {{"family", site.family == net::Family::kIPv4 ? "IPv4" : "IPv6"},
          {"node", site.node},
          {"uplink", site.uplink},
          {"linkPrefix", site.link_prefix},
          {"pods", site.pods},
          {"nodePods", site.node_pods},
          {"nodes", site.nodes},
          {"clusterIPs", site.cluster_ips},
          {"policies", Json::array()},
          {"hostPort", site.host_port},
          {"hostPortTo", site.host_port_to},
          {"dns", site.dns},
          {"dnsPort", site.dns_port}};
  for (const PodPolicy& policy : site.policies) {
    json["policies"].push_back({{"pod", policy.pod},
                                {"link", policy.link},
                                {"ingressFrom", ToJson(policy.ingress_from)},
                                {"egressTo", ToJson(policy.egress_to)}});
  }
}

void from_json(const Json& json, NeighbourSite& site) {
  site.family = json.at("family") == "IPv4" ? net::Family::kIPv4 : net::Family::kIPv6;
  json.at("node").get_to(site.node);
  json.at("uplink").get_to(site.uplink);
  json.at("linkPrefix").get_to(site.link_prefix);
  json.at("pods").get_to(site.pods);
  json.at("nodePods").get_to(site.node_pods);
  json.at("nodes").get_to(site.nodes);
  json.at("clusterIPs").get_to(site.cluster_ips);
  json.at("hostPort").get_to(site.host_port);
  json.at("hostPortTo").get_to(site.host_port_to);
  json.at("dns").get_to(site.dns);
  json.at("dnsPort").get_to(site.dns_port);
  site.policies.clear();
  for (const Json& policy : json.at("policies")) {
    site.policies.push_back({.pod = policy.at("pod"),
                             .link = policy.at("link"),
                             .ingress_from = ListOrNothing(policy.at("ingressFrom")),
                             .egress_to = ListOrNothing(policy.at("egressTo"))});
  }
}

std::span<const KnownNeighbour> KnownNeighbours() {
  using Site = NeighbourSite;
  static const std::vector<KnownNeighbour> kKnown = {
      {.name = "aws",
       .source = "aws/amazon-vpc-cni-k8s pkg/networkutils/network.go",
       .row = "aws-vpc-cni",
       .make =
           [](const Site& site) {
             // Pods and nodes have addresses of the VPC.
             return AwsVpcCni(site.family, {site.pods, site.nodes}, site.uplink, site.link_prefix,
                              site.node.at(0));
           }},
      {.name = "azure-npm",
       .source = "Azure/azure-container-networking npm/pkg/dataplane/policies",
       .row = "azure-npm",
       .polices = true,
       .make = [](const Site& site) { return AzureNpm(site.policies); }},
      {.name = "calico-append",
       .source = "projectcalico/calico felix/rules, ChainInsertMode Append",
       .row = "calico",
       .polices = true,
       .felix = CalicoInserts::kLast},
      {.name = "calico-insert",
       .source = "projectcalico/calico felix/rules, ChainInsertMode Insert",
       .row = "calico",
       .polices = true,
       .felix = CalicoInserts::kFirst},
      {.name = "cilium",
       .source = "cilium/cilium pkg/datapath/iptables/iptables.go",
       .row = "cilium",
       .make = [](const Site&) { return Cilium(); }},
      {.name = "docker",
       .source = "moby/moby daemon/libnetwork/drivers/bridge; flannel-io/flannel pkg/trafficmngr",
       .row = "flannel",
       .make = DockerBesideFlannel},
      {.name = "firewalld",
       .source = "firewalld/firewalld src/firewall/core/nftables.py",
       .row = "firewalld",
       .needs_nf_tables = true,
       .make = [](const Site& site) { return FirewalldNft({site.uplink}); }},
      {.name = "kube-router",
       .source = "cloudnativelabs/kube-router pkg/controllers/netpol",
       .row = "kube-router",
       .polices = true,
       .make =
           [](const Site& site) {
             return KubeRouter(site.family, site.policies, site.cluster_ips);
           }},
      {.name = "nodelocaldns",
       .source = "kubernetes/dns cmd/node-cache/app/cache_app.go",
       .row = "nodelocaldns",
       .make = [](const Site& site) { return NodeLocalDns(site.family, site.dns, site.dns_port); }},
      {.name = "portmap",
       .source = "containernetworking/plugins plugins/meta/portmap/portmap_iptables.go",
       .make = [](const Site& site) { return Portmap(site.host_port, site.host_port_to); }},
      {.name = "portmap-nft",
       .source = "containernetworking/plugins plugins/meta/portmap/portmap_nftables.go",
       .row = "cni-hostport-nft",
       .needs_nf_tables = true,
       .make =
           [](const Site& site) {
             return PortmapNft(site.family, site.host_port, site.host_port_to);
           }},
      {.name = "weave",
       .source = "weaveworks/weave net/bridge.go, npc/controller.go",
       .row = "weave-npc",
       .polices = true,
       .make = [](const Site& site) { return Weave(site.policies); }},
  };
  return kKnown;
}

const KnownNeighbour* FindNeighbour(std::string_view name) {
  const auto known = KnownNeighbours();
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](const KnownNeighbour& one) { return one.name == name; });
  return found == known.end() ? nullptr : &*found;
}

std::string KnownNeighbourNames() {
  std::string names;
  for (const KnownNeighbour& known : KnownNeighbours())
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

}  // namespace pointsman::agent::testing
