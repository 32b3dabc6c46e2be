// The names of what a node agent looks for beside itself on a node, and of what a user accepts
// there (spec.neighbours.accept). What each is and what follows from it is the node agent's table
// (node-agent/neighbours/neighbour_table.h), which has these names and no others.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::kube {

// Sorted. A name is never given to something else: it stands in users' objects.
inline constexpr std::array<std::string_view, 30> kNeighbourNames = {
    "antrea",
    "antrea-egress",
    "antrea-proxy-all",
    "aws-pod-eni",
    "aws-vpc-cni",
    "azure-cni-bridge",
    "azure-npm",
    "bridge-nf-call",
    "calico",
    "calico-ebpf",
    "cilium",
    "cni-hostport-nft",
    "docker",
    "firewalld",
    "flannel",
    "forward-policy-drop",
    "istio-ambient",
    "keepalived-or-kube-vip",
    "kube-network-policies",
    "kube-ovn",
    "kube-proxy-nftables",
    "kube-router",
    "kube-router-service-proxy",
    "masquerade-mark",
    "nodelocaldns",
    "ovn-kubernetes",
    "routing-rule-iif",
    "stale-kube-proxy-sets",
    "vrf",
    "weave-npc",
};

constexpr bool IsNeighbourName(std::string_view name) {
  return std::binary_search(kNeighbourNames.begin(), kNeighbourNames.end(), name);
}

// For messages: "antrea, antrea-egress, …".
inline std::string NeighbourNameWords() {
  std::string words;
  for (const std::string_view name : kNeighbourNames) {
    if (!words.empty()) words += ", ";
    words += name;
  }
  return words;
}

// For where there is no field to name one in: each is accepted.
inline std::vector<std::string> AllNeighbourNames() {
  return {kNeighbourNames.begin(), kNeighbourNames.end()};
}

}  // namespace pointsman::kube
