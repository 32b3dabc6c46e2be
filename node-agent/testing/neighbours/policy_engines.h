// NetworkPolicy as iptables rules.
#pragma once

#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/testing/neighbours/neighbour.h"

namespace pointsman::agent::testing {

using PodPolicies = std::vector<PodPolicy>;

// cloudnativelabs/kube-router 7c2c277, pkg/controllers/netpol: jumps at position 1 at each sync
// (npc_iptables.go, ensureTopLevelChains), a chain for each pod with a policy (pod.go), REJECT.
// `cluster_ips`: Services' range ("10.96.0.0/16"), which its INPUT lets by, as it does node ports.
Neighbour KubeRouter(net::Family family, const PodPolicies& policies,
                     const std::string& cluster_ips);

enum class CalicoInserts : uint8_t { kFirst, kLast };
// projectcalico/calico 87c1590, felix/rules/static.go, dispatch.go and endpoints.go, with
// ChainInsertMode Insert or Append (felix/iptables/table.go, expectedHashesForInsertAppendChain)
// and DefaultEndpointToHostAction Accept. `link_prefix`: of workloads' links ("cali" on a node).
// A workload's link that no policy names is not refused as unknown here.
Neighbour Calico(net::Family family, const PodPolicies& policies, const std::string& link_prefix,
                 CalicoInserts inserts);
// The same with KubeIPVSSupportEnabled, which Felix has when it sees the interface kube-ipvs0: what
// comes through INPUT and is not for the node gets a mark of its endpoint, by which OUTPUT judges
// it. `node`: the node's addresses.
Neighbour CalicoForIpvs(net::Family family, const PodPolicies& policies,
                        const std::string& link_prefix, const std::vector<std::string>& node,
                        CalicoInserts inserts);

// Weave Net 2.8 (weaveworks/weave, net/bridge.go and npc/controller.go): what its chain lets by is
// dropped by the next rule of FORWARD, for the same link. Of ingress only.
Neighbour Weave(const PodPolicies& policies);

// Azure/azure-container-networking cbd7560, npm/pkg/dataplane/policies/chain-management_linux.go:
// FORWARD only, new connections only, first when there is no jump to KUBE-SERVICES.
Neighbour AzureNpm(const PodPolicies& policies);

}  // namespace pointsman::agent::testing
