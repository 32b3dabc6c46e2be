// What network plugins and DNS caches have in a node's kernel, beside policies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/testing/neighbours/neighbour.h"

namespace pointsman::agent::testing {

// flannel-io/flannel cdf7605, pkg/trafficmngr/iptables/iptables.go: accepts what pods forward, and
// lets by what has kube-proxy's masquerade mark. `pods`: of the cluster, `node_pods`: of this node.
Neighbour Flannel(net::Family family, const std::string& pods, const std::string& node_pods);

// Cilium beside a kube-proxy (cilium/cilium, pkg/datapath/iptables/iptables.go,
// installHostTrafficMarkRule): what leaves by OUTPUT is marked as the node's own.
Neighbour Cilium();

// aws/amazon-vpc-cni-k8s b521883, pkg/networkutils/network.go: connections that came by the primary
// interface have a mark in connection tracking, by which answers are routed; pods' connections to
// others than the VPC (`vpc`: its CIDRs) leave with the node's address. Pods' links begin with
// `link_prefix`.
Neighbour AwsVpcCni(net::Family family, const std::vector<std::string>& vpc,
                    const std::string& uplink, const std::string& link_prefix,
                    const std::string& node);

// kubernetes/dns 9aa70b8, cmd/node-cache/app/cache_app.go: an interface with the cluster IP of the
// cluster's DNS, what goes there or comes from there passes connection tracking.
Neighbour NodeLocalDns(net::Family family, const std::string& cluster_ip, uint16_t port);

}  // namespace pointsman::agent::testing
